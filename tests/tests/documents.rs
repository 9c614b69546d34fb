//! What documents and experiments say is what the program knows.

use std::path::Path;

use anyhow::{Context, Result};
use candle_vision_recipe::{Recipe, Registry};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository")
}

/// The whole recipe of `docs/recipes.md`, and each of its single settings in that recipe.
#[test]
fn the_documentation_s_settings_are_settings() -> Result<()> {
    let registry = Registry::standard();
    let page = std::fs::read_to_string(root().join("docs/recipes.md"))?;
    let mut blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let text = blocks.next().context("the page begins with a recipe")?;
    let whole = Recipe::parse(text)?;
    whole.settings()?.check(&registry)?;
    let (variants, blocks): (Vec<&str>, Vec<&str>) =
        blocks.partition(|block| block.starts_with("[[variants]]"));
    for variants in &variants {
        let listed = Recipe::parse(&format!("{text}\n{variants}"))?.variants()?;
        listed.iter().try_for_each(|variant| variant.recipe.settings()?.check(&registry))?;
    }
    assert!(!variants.is_empty());
    let mut count = 0;
    for line in blocks.into_iter().flat_map(str::lines).filter(|line| line.contains(" = ")) {
        let line = line.split(" #").next().unwrap_or_default();
        let mut changed = whole.clone();
        // A table with a name is chosen as a whole.
        changed.set(line).with_context(|| line.to_owned())?;
        assert!(changed.hints().is_empty(), "{line}: {:?}", changed.hints());
        changed.settings()?.check(&registry).with_context(|| line.to_owned())?;
        count += 1;
    }
    assert!(count > 30, "{count} settings");
    Ok(())
}

/// Each recipe that comes with the program, and what it becomes where data or weights lack.
#[test]
fn every_experiment_is_whole() -> Result<()> {
    let registry = Registry::standard();
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("xtask/experiments"))? {
        let recipe = Recipe::read(entry?.path())?;
        assert!(recipe.hints().is_empty(), "{:?}", recipe.hints());
        let forms = [
            Some(recipe.clone()),
            recipe.clone().lacking_data()?,
            recipe.clone().lacking_weights()?,
        ];
        let variants = recipe.variants()?.into_iter().map(|variant| variant.recipe);
        for form in forms.into_iter().flatten().chain(variants) {
            let mut settings = form.settings()?;
            settings.check(&registry)?;
            for transforms in [&settings.data.train, &settings.data.eval] {
                let transforms = transforms.build(&registry.transforms)?;
                let side = settings.model.image_size;
                let size = transforms.output_size().unwrap_or((side, side));
                assert_eq!(size, (side, side), "{}", settings.description);
            }
        }
        count += 1;
    }
    assert!(count >= 11, "{count} recipes");
    Ok(())
}

/// A card can hold the images of MNIST and CIFAR-10 and make the batches of every experiment with them.
#[test]
fn experiments_with_small_images_can_run_on_a_card_alone() -> Result<()> {
    let registry = Registry::standard();
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("xtask/experiments"))? {
        let settings = Recipe::read(entry?.path())?.settings()?;
        let source = registry.data_sets.get(&settings.data.source)?;
        let Some([channels, height, width]) = source.native_shape() else { continue };
        for transforms in [&settings.data.train, &settings.data.eval] {
            let transforms = transforms.build(&registry.transforms)?;
            let rng = &mut candle_vision::data::random::generator(0);
            let drawn = transforms.draw([height, width, channels], rng);
            drawn.with_context(|| settings.description.clone())?;
        }
        count += 1;
    }
    assert!(count >= 8, "{count} recipes");
    Ok(())
}

/// `docs/parts.md` is made from the tables. `UPDATE_DOCS=1 cargo test -p candle-vision-tests --test documents`
/// writes it anew.
#[test]
fn the_page_of_parts_is_that_of_the_tables() -> Result<()> {
    let registry = Registry::standard();
    let training = &registry.training;
    let tables = [
        ("Networks", "`model.architecture`", registry.networks.table().to_markdown()),
        ("Data sets", "`data.source`", registry.data_sets.to_markdown()),
        ("Samplers", "`data.sampler`", registry.samplers.to_markdown()),
        ("Transforms", "`op` in `data.train` and `data.eval`", registry.transforms.to_markdown()),
        (
            "Batch transforms",
            "`op` in `data.batch_transforms`",
            registry.batch_transforms.to_markdown(),
        ),
        ("Optimizers", "`training.optimizer.name`", training.optimizers.entries().to_markdown()),
        (
            "Learning-rate schedules",
            "`training.schedule.name`",
            training.schedules.entries().to_markdown(),
        ),
        ("Losses", "`training.loss.name`", training.losses.entries().to_markdown()),
        ("Metrics", "`name` in `training.metrics`", training.metrics.entries().to_markdown()),
        (
            "Test-time augmentations",
            "`training.tta.name`, `eval --tta`, `predict --tta`",
            training.tta.entries().to_markdown(),
        ),
        (
            "Explanation methods",
            "`explain --method`, `score --methods`",
            registry.methods.table().to_markdown(),
        ),
    ];
    let mut page = "# What can be named\n\nThis page is made from the tables of the program. A program of your own \
                    adds rows to them ([library.md](library.md)).\n"
        .to_owned();
    for (title, setting, table) in tables {
        page += &format!("\n## {title}\n\nNamed by {setting}.\n\n{table}");
    }
    let path = root().join("docs/parts.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page)?;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written, page,
        "docs/parts.md is not that of the tables; make it with UPDATE_DOCS=1"
    );
    Ok(())
}

/// The tests of the command bring the recipes that they run, because a published crate has no others.
#[test]
fn the_command_s_tests_run_the_recipes_of_the_experiments() -> Result<()> {
    for entry in std::fs::read_dir(root().join("crates/cli/tests/cli/recipes"))? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?;
        let experiment = root().join("xtask/experiments").join(name);
        assert_eq!(
            std::fs::read_to_string(&path)?,
            std::fs::read_to_string(experiment)?,
            "{name:?}"
        );
    }
    Ok(())
}
