//! Compares the settings in a checkpoint with today's.
//!
//! Recorded settings are compared as values, not as text. A setting that did not exist when a run was
//! recorded counts as having its default.

mod debug;

use candle_vision_data::transforms::{Compose, ComposeDescription, Transform, Transforms};

use debug::Node;

/// Transforms in the form in which a checkpoint records them.
pub(crate) fn transforms(transforms: &Compose) -> String {
    // This cannot fail for numbers and names alone. Otherwise the debug output serves as a record too.
    serde_json::to_string(&transforms.describe()).unwrap_or_else(|_| format!("{transforms:?}"))
}

/// Whether `recorded` and `found` describe the same transforms; `found` was made today. For transforms from
/// outside every setting must have been recorded, because only the defaults of the standard ones are known
/// here.
pub(crate) fn are_same_transforms(found: &str, recorded: &str) -> bool {
    let standard = Transforms::standard();
    let Ok(found) = serde_json::from_str::<ComposeDescription>(found) else { return false };
    match serde_json::from_str::<ComposeDescription>(recorded) {
        Ok(recorded) => recorded.is_same(&found, &standard),
        // Early checkpoints of format 1 have Rust's debug output instead.
        Err(_) => {
            let found = found.build(&standard);
            found.is_ok_and(|found| is_recorded_as_debug(&found, recorded, &standard))
        }
    }
}

/// Whether `recorded`, the debug output of an earlier version, describes these transforms.
fn is_recorded_as_debug(found: &Compose, recorded: &str, standard: &Transforms) -> bool {
    let Some(steps) = Node::parse(recorded).and_then(Node::steps) else { return false };
    steps.len() == found.transforms().len()
        && steps.iter().zip(found.transforms()).all(|(recorded, step)| {
            let today = Node::parse(&format!("{step:?}"));
            let added = today.and_then(|today| recorded.added_in(&today));
            added.is_some_and(|added| are_defaults(step, &added, standard))
        })
}

/// Whether these settings of a transform have their default values.
fn are_defaults(step: &dyn Transform, settings: &[String], standard: &Transforms) -> bool {
    let whole = step.describe();
    let mut given = whole.clone();
    given.settings.retain(|name, _| !settings.contains(name));
    let filled = standard.get(&given.name).ok().and_then(|entry| entry.build(&given).ok());
    filled.is_some_and(|filled| filled.describe() == whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: &str = r#"[{"op":"random_crop","size":32,"padding":4},{"op":"resize","size":8},{"op":"to_tensor"}]"#;

    fn today() -> Compose {
        let description: ComposeDescription = serde_json::from_str(TODAY).unwrap();
        description.build(&Transforms::standard()).unwrap()
    }

    #[track_caller]
    fn check(recorded: &str, expected: bool) {
        assert_eq!(are_same_transforms(&transforms(&today()), recorded), expected, "{recorded}");
    }

    #[test]
    fn a_setting_that_was_not_recorded_has_its_default() {
        check(&transforms(&today()), true);
        check(TODAY, true);
        check(&TODAY.replace(r#""padding":4"#, r#""padding":4,"fill":0"#), true);
        check(&TODAY.replace(r#""padding":4"#, r#""padding":4,"fill":1"#), false);
        check(&TODAY.replace(r#""padding":4"#, r#""padding":4,"no_such_setting":1"#), false);
        check(&TODAY.replace(r#","padding":4"#, ""), false);
    }

    #[test]
    fn debug_output_of_earlier_versions_is_read() {
        let debug = format!("{:?}", today());
        check(&debug, true);
        // As if `fill` and `interpolation` had not been there yet.
        let older = debug.replace(", fill: 0", "").replace(", interpolation: Bilinear", "");
        assert!(older.len() + 30 < debug.len(), "{older}");
        check(&older, true);
        check(&debug.replace("fill: 0", "fill: 1"), false);
        check(&debug.replace("One(8)", "One(9)"), false);
        check(&debug.replace("ToTensor", "ToTensor, ToTensor"), false);
        check(&debug.replace("fill: 0", "gone: 0"), false);
        for damaged in ["", "Compose(", "Compose([ToTensor", "[]]", "a b c"] {
            check(damaged, false);
        }
    }

    #[test]
    fn a_setting_that_is_not_at_its_default_must_have_been_recorded() {
        let older = format!("{:?}", today()).replace(", interpolation: Bilinear", "");
        let bicubic = TODAY.replace(r#""size":8"#, r#""size":8,"interpolation":"bicubic""#);
        assert!(!are_same_transforms(&bicubic, &older));
        assert!(are_same_transforms(TODAY, &older));
    }
}
