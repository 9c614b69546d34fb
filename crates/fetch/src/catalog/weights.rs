//! Weights of networks trained on ImageNet-1k, under torchvision's parameter names.

use super::{file, strings, sum};
use crate::checksum::FileSpec;
use crate::hub::HubFile;
use crate::item::{Content, Item, Layout, Source};

const PYTORCH_MODELS: &str = "https://download.pytorch.org/models/";

pub(super) fn resnet18() -> Item {
    let on_hub = hub(
        "timm/resnet18.tv_in1k",
        "bbd144b3e5565108aad885f145491d11bc6ce807",
        file(
            "model.safetensors",
            46_807_446,
            "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
        ),
    );
    let pickle = file(
        "resnet18-f37072fd.pth",
        46_830_571,
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    );
    // Dense form of the product-quantised ResNet-18 of "And the bit goes down" (CC BY-NC 4.0).
    let dequantised = file(
        "resnet18.safetensors",
        46_807_480,
        "e9296bf9ff7744f3ed504e314e1e9a0ea47c119bdf8081744c51b5a4e0a4f9f7",
    );
    weights(
        "resnet18",
        "ResNet-18 weights for ImageNet-1k (47 MB; torchvision, BSD-3-Clause)",
        Some(on_hub),
        pickle,
        vec![dequantised],
    )
}

pub(super) fn resnet34() -> Item {
    let on_hub = hub(
        "timm/resnet34.tv_in1k",
        "1b7b21cca82ff974d341713f777bf740c2db38c4",
        file(
            "model.safetensors",
            87_278_522,
            "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
        ),
    );
    let pickle = file(
        "resnet34-b627a593.pth",
        87_319_819,
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    );
    weights(
        "resnet34",
        "ResNet-34 weights for ImageNet-1k (87 MB; torchvision, BSD-3-Clause)",
        Some(on_hub),
        pickle,
        Vec::new(),
    )
}

pub(super) fn alexnet() -> Item {
    let pickle = file(
        "alexnet-owt-7be5be79.pth",
        244_408_911,
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    );
    weights(
        "alexnet",
        "AlexNet weights for ImageNet-1k (244 MB; torchvision, BSD-3-Clause)",
        None,
        pickle,
        Vec::new(),
    )
}

pub(super) fn mobilenet_v2() -> Item {
    let pickle =
        FileSpec { sha256: Some(sum("b0353104")), ..FileSpec::named("mobilenet_v2-b0353104.pth") };
    // De-quantised from Google's int8 TFLite model (Apache-2.0).
    let dequantised = file(
        "mobilenet_v2.safetensors",
        14_186_232,
        "f8f158f29a6a407f2cacf59749e3ac06f2ea3216ac172a486cbd932e199b8941",
    );
    weights(
        "mobilenet_v2",
        "MobileNetV2 weights for ImageNet-1k (14 MB; torchvision, BSD-3-Clause)",
        None,
        pickle,
        vec![dequantised],
    )
}

/// The item `weights/NAME.safetensors`. It comes from the hub if the hub has the weights under
/// torchvision's parameter names, because nothing has to be converted then. Otherwise it comes from
/// torchvision's own pickle.
fn weights(
    name: &str,
    about: &str,
    on_hub: Option<HubFile>,
    pickle: FileSpec,
    mut known: Vec<FileSpec>,
) -> Item {
    let to = format!("weights/{name}.safetensors");
    let mut sources = Vec::new();
    if let Some(file) = on_hub {
        known.push(file.spec.clone());
        sources.push(Source::Hub { file, to: to.clone() });
    }
    sources.push(Source::Pth { file: pickle, mirrors: strings(&[PYTORCH_MODELS]), to });
    Item {
        name: name.to_owned(),
        about: about.to_owned(),
        layouts: vec![Layout {
            folder: "weights".to_owned(),
            content: Content::Weights { name: format!("{name}.safetensors"), known },
        }],
        sources,
    }
}

fn hub(repo: &str, revision: &str, spec: FileSpec) -> HubFile {
    HubFile { repo: repo.to_owned(), revision: revision.to_owned(), spec }
}
