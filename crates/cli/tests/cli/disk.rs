//! Disks that take no more.

use std::process::Command;

use crate::support::Place;

#[test]
fn runs_that_cannot_be_written_are_refused() {
    let place = Place::new();
    place.small(&["--runs", "small.toml"]).fails(&["small.toml/small", "--runs DIR"]);
    place.write("kept/file", "");
    let mut permissions =
        std::fs::metadata(place.path("kept")).expect("the folder is there").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(place.path("kept"), permissions).expect("it is ours");
    if std::fs::write(place.path("kept/probe"), "").is_ok() {
        println!("skipped: this user may write into a read-only folder");
        return;
    }
    place.small(&["--runs", "kept"]).fails(&["kept/small", "--runs DIR"]);
}

/// A file system of a given size, for those who may mount one.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(folder: std::path::PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&folder).expect("a folder");
        let option = format!("size={size}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &option, "none"])
            .arg(&folder)
            .output()
            .ok()?;
        mount.status.success().then_some(Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "cannot unmount {:?}", self.0);
    }
}

#[test]
fn a_full_disk_leaves_what_was_written() {
    let place = Place::new();
    // Room for the best checkpoint (96 kB), but not for the last one beside it (280 kB).
    let Some(_mounted) = Mounted::new(place.path("disk"), "256k") else {
        println!("skipped: this user may not mount a file system");
        return;
    };
    let run = place.small(&["--runs", "disk"]);
    run.fails(&["no space left", "disk/small/001/last.safetensors", "free some space"]);
    assert!(!place.tensors("disk/small/001/best.safetensors").is_empty());
    let files = std::fs::read_dir(place.path("disk/small/001")).expect("the run's folder");
    for file in files {
        let name = file.expect("a file").file_name();
        assert!(!name.to_string_lossy().starts_with(".candle-vision-"), "{name:?}");
    }
}
