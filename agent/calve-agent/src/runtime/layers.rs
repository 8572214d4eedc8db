//! Where a runtime finds what its layers bring: the folders of `/opt` that AWS Lambda documents for each language
//! ("Packaging your layer content"). Variables are set for folders that are there; a function without layers has none.

use std::path::{Path, PathBuf};

/// Shared libraries of layers. The function's own come before them.
const LIBRARIES: &str = "lib";

/// Variables, each with the folders that it is to name, in the order in which they are looked into.
pub(super) fn folders(
    layers: &Path,
    task_root: &Path,
    runtime: &str,
) -> Vec<(&'static str, Vec<PathBuf>)> {
    let mut found = Vec::new();
    let mut add = |name, folders: Vec<PathBuf>| {
        if !folders.is_empty() {
            found.push((name, folders));
        }
    };
    let there = |names: &[String]| {
        let folders = names.iter().map(|name| layers.join(name));
        folders.filter(|folder| folder.is_dir()).collect::<Vec<_>>()
    };
    if runtime.starts_with("python") {
        let packages = format!("python/lib/{runtime}/site-packages");
        add("PYTHONPATH", there(&[packages, "python".into()]));
    } else if runtime.starts_with("node") {
        let packages = format!("nodejs/{runtime}/node_modules");
        add("NODE_PATH", there(&[packages, "nodejs/node_modules".into()]));
    }
    if has_libraries(layers) {
        let (own, theirs) = (task_root.join(LIBRARIES), layers.join(LIBRARIES));
        add("LD_LIBRARY_PATH", vec![task_root.to_owned(), own, theirs]);
    }
    found
}

/// Whether there are shared libraries, which only a process finds that is started with a variable for them.
pub(super) fn has_libraries(layers: &Path) -> bool {
    layers.join(LIBRARIES).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is set for a runtime whose layers have these folders, with `/opt` and `/var/task` as they are in a guest.
    fn set(runtime: &str, folders_there: &[&str]) -> Vec<(&'static str, String)> {
        let dir = tempfile::tempdir().unwrap();
        let opt = dir.path().join("opt");
        for folder in folders_there {
            std::fs::create_dir_all(opt.join(folder)).unwrap();
        }
        let join = |folders: Vec<PathBuf>| std::env::join_paths(folders).unwrap();
        let shown = |folders: Vec<PathBuf>| {
            let text = join(folders).into_string().unwrap();
            text.replace(opt.to_str().unwrap(), "/opt")
        };
        let found = folders(&opt, Path::new("/var/task"), runtime);
        found.into_iter().map(|(name, folders)| (name, shown(folders))).collect()
    }

    #[test]
    fn a_function_without_layers_is_told_nothing() {
        for runtime in ["python3.11", "node20", "provided"] {
            assert_eq!(set(runtime, &[]), []);
            assert_eq!(set(runtime, &["bin", "extensions"]), []);
        }
    }

    #[test]
    fn each_language_has_its_folders() {
        let all = [
            "python/lib/python3.11/site-packages",
            "nodejs/node20/node_modules",
            "nodejs/node_modules",
            "lib",
        ];
        let libraries = ("LD_LIBRARY_PATH", "/var/task:/var/task/lib:/opt/lib".to_owned());
        let python = "/opt/python/lib/python3.11/site-packages:/opt/python".to_owned();
        assert_eq!(set("python3.11", &all), [("PYTHONPATH", python), libraries.clone()]);
        let node = "/opt/nodejs/node20/node_modules:/opt/nodejs/node_modules".to_owned();
        assert_eq!(set("node20", &all), [("NODE_PATH", node), libraries.clone()]);
        assert_eq!(set("provided", &all), [libraries]);
        assert_eq!(set("python3.11", &["python"]), [("PYTHONPATH", "/opt/python".to_owned())]);
        let other = ["nodejs/node18/node_modules"];
        assert_eq!(set("node20", &other), []);
    }
}
