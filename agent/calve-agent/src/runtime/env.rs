//! The runtime's environment: what AWS Lambda documents under "Defined runtime environment variables".

use std::net::SocketAddr;
use std::path::Path;

use super::{Function, layers};

/// The variables of a runtime, the user's first, ours after them so that they win. What leads into the layers comes behind
/// what the user has set: whoever adds a folder of their own keeps what the layers bring.
pub(super) fn environment(
    function: &Function,
    task_root: &Path,
    layers_root: &Path,
    search_path: &str,
    api: Option<SocketAddr>,
) -> Vec<(String, String)> {
    let c = &function.configure;
    let mut env: Vec<(String, String)> = [
        // A user may replace these.
        ("PATH", search_path.to_owned()),
        ("LANG", "C.UTF-8".into()),
        ("TZ", ":UTC".into()),
        ("HOME", "/tmp".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    // A shim heeds this one, which is ours to set.
    let users = c.env.iter().filter(|v| v.name != super::launch::PRELOAD);
    env.extend(users.map(|v| (v.name.clone(), v.value.clone())));
    for (name, folders) in layers::folders(layers_root, task_root, &c.runtime) {
        let users = c.env.iter().rfind(|v| v.name == name).map(|v| v.value.clone());
        let folders = folders.iter().map(|folder| folder.display().to_string());
        let all = users.filter(|value| !value.is_empty()).into_iter().chain(folders);
        env.push((name.to_owned(), all.collect::<Vec<_>>().join(":")));
    }
    let ours = [
        ("_HANDLER", c.handler.clone()),
        ("LAMBDA_TASK_ROOT", task_root.display().to_string()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".into()),
        ("AWS_EXECUTION_ENV", execution_env(&c.runtime)),
        ("AWS_LAMBDA_FUNCTION_NAME", c.function_name.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", c.function_version.clone()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", c.memory_mib.to_string()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", c.function_name)),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "calve".into()),
        // Clients that know of snapshots run their hooks with this and wait in restore/next.
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start".into()),
    ];
    env.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    env.extend(api.map(|address| ("AWS_LAMBDA_RUNTIME_API".to_owned(), address.to_string())));
    env
}

/// `python3.11` → `AWS_Lambda_python3.11`, `node20` → `AWS_Lambda_nodejs20.x`.
fn execution_env(runtime: &str) -> String {
    match runtime.strip_prefix("node") {
        Some(version) => format!("AWS_Lambda_nodejs{version}.x"),
        None => format!("AWS_Lambda_{runtime}"),
    }
}

#[cfg(test)]
mod tests {
    use calve_proto::wire;

    use super::*;

    #[test]
    fn ours_win_over_the_users_and_the_users_over_defaults() {
        let var = |name: &str, value: &str| wire::EnvVar { name: name.into(), value: value.into() };
        let configure = wire::Configure {
            runtime: "node20".into(),
            handler: "app.handler".into(),
            env: vec![
                var("TZ", "Europe/Oslo"),
                var("_HANDLER", "evil"),
                var("X", "1"),
                var("CALVE_PRELOAD", "1"),
            ],
            ..wire::Configure::default()
        };
        let api = Some(SocketAddr::from(([127, 0, 0, 1], 9001)));
        let (task, layers) = (Path::new("/var/task"), Path::new("/dev/null/none"));
        let env = environment(&Function::new(configure), task, layers, "/bin", api);
        // Command keeps the last value of a name.
        let last = |name: &str| env.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(last("TZ"), Some("Europe/Oslo"));
        assert_eq!(last("_HANDLER"), Some("app.handler"));
        assert_eq!(last("X"), Some("1"));
        assert_eq!(last("CALVE_PRELOAD"), None);
        assert_eq!(last("AWS_EXECUTION_ENV"), Some("AWS_Lambda_nodejs20.x"));
        assert_eq!(last("AWS_LAMBDA_RUNTIME_API"), Some("127.0.0.1:9001"));
        assert_eq!(last("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), Some("128"));
        assert_eq!(last("NODE_PATH"), None);
    }

    #[test]
    fn layers_come_behind_what_the_user_has_set() {
        let layers = tempfile::tempdir().unwrap();
        std::fs::create_dir(layers.path().join("python")).unwrap();
        let python = layers.path().join("python").display().to_string();
        for (users, wanted) in [
            (None, python.clone()),
            (Some(""), python.clone()),
            (Some("/var/task/src"), format!("/var/task/src:{python}")),
        ] {
            let variable =
                |value: &str| wire::EnvVar { name: "PYTHONPATH".into(), value: value.into() };
            let env = users.map(variable).into_iter().collect();
            let runtime = "python3.11".into();
            let configure = wire::Configure { runtime, env, ..wire::Configure::default() };
            let function = Function::new(configure);
            let env = environment(&function, Path::new("/var/task"), layers.path(), "/bin", None);
            let set = env.iter().rfind(|(name, _)| name == "PYTHONPATH").unwrap();
            assert_eq!(set.1, wanted);
        }
    }
}
