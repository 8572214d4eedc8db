use super::*;
use clap::CommandFactory;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

fn refusal(line: &str) -> String {
    usage::line(&parse(line).unwrap_err())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_examples() {
    fn walk(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("Examples:"), "{}", command.get_name());
        command.get_subcommands().for_each(walk);
    }
    walk(&Cli::command());
}

#[test]
fn a_build_is_read() {
    let line = "calve --store /s snapshot build --runtime node20 --code d --handler a.b --env A=b=c \
                --env E= --timeout 0.5 --warm {} --warm @f --layer l --layer m.zip n";
    let cli = parse(line).unwrap();
    let Command::Snapshot(Snapshot::Build(build)) = cli.command else { panic!("{cli:?}") };
    assert_eq!(cli.store.as_deref(), Some("/s".as_ref()));
    assert_eq!((build.memory, build.vcpus), (256, 1));
    assert_eq!(build.runtime, Runtime::Node20);
    assert_eq!(build.timeout, Duration::from_millis(500));
    assert_eq!(build.env[0], EnvVar { name: "A".into(), value: "b=c".into() });
    assert_eq!(build.env[1], EnvVar { name: "E".into(), value: String::new() });
    assert_eq!(build.warm, ["{}", "@f"]);
    assert_eq!(build.layer, ["l", "m.zip"].map(PathBuf::from));
}

#[test]
fn the_store_may_be_named_anywhere() {
    let cli = parse("calve snapshot ls --store /s").unwrap();
    assert_eq!(cli.store.as_deref(), Some("/s".as_ref()));
}

#[test]
fn only_a_bootstrap_does_without_a_handler() {
    parse("calve snapshot build --runtime provided --code d n").unwrap();
    let text = refusal("calve snapshot build --runtime node20 --code d n");
    assert!(text.contains("--handler"), "{text}");
}

#[test]
fn a_run_wants_an_event() {
    let text = refusal("calve run n");
    assert!(text.contains("--event <EVENT>"), "{text}");
    assert!(text.ends_with("; see `calve run --help`"), "{text}");
    assert!(refusal("calve run n --event {} --events f").contains("cannot be used with"));
    parse("calve run n --events -").unwrap();
}

#[test]
fn refusals_are_one_line_and_name_the_remedy() {
    for (line, wanted) in [
        ("calve", "a command is missing; see `calve --help`"),
        ("calve rum", "a similar subcommand exists: 'run'"),
        ("calve run n --evnt {}", "a similar argument exists: '--event'"),
        ("calve run n --event {} --count 0", "0 is not in 1..=1000000"),
        ("calve run n --event {} --parallel x", "invalid value 'x' for '--parallel <P>'"),
        ("calve fork n --before {}", "--event <EVENT>"),
        ("calve run n --event {} --timeout nan", "give seconds, from 0.001 to 86400"),
        ("calve boot --kernel k --memory 1", "give 2 to 1048576 MiB"),
        ("calve boot --kernel k --vcpus 9", "give 1 to 8"),
        ("calve boot --kernel k --writable", "--root <IMG>"),
        ("calve snapshot build --runtime python3.1 --code d --handler h n", "'python3.11'"),
        ("calve snapshot build --runtime node20 --code d --handler h --env X n", "NAME=VALUE"),
        ("calve snapshot", "see `calve snapshot --help`"),
    ] {
        let text = refusal(line);
        assert!(text.contains(wanted), "{line}: {text}");
        assert!(!text.contains('\n') && !text.starts_with("error"), "{line}: {text}");
        assert!(text.ends_with("--help`"), "{line}: {text}");
    }
}

#[test]
fn a_function_is_read() {
    let line = "calve function --key a:b create n --code d --runtime provided --memory 256 --timeout 900 \
                --env A=1 --env B= --url http://h";
    let cli = parse(line).unwrap();
    let Command::Function(functions) = cli.command else { panic!("{cli:?}") };
    let server = &functions.server;
    assert_eq!((server.url.as_str(), server.key.as_deref()), ("http://h", Some("a:b")));
    let Function::Create(create) = functions.command else { panic!("no creation") };
    assert_eq!((create.configuration.memory, create.configuration.timeout), (Some(256), Some(900)));
    assert_eq!((create.configuration.env.len(), create.handler), (2, None));
    assert!(!create.waiting.no_wait);
    parse("calve function create n --code d --runtime provided --wait").unwrap();
}

#[test]
fn what_a_host_would_refuse_is_refused_here_where_that_is_known() {
    let create = "calve function create n --code d --runtime";
    for (line, wanted) in [
        (format!("{create} node20"), "--handler"),
        (format!("{create} provided --memory 127"), "127 is not in 128..=10240"),
        (format!("{create} provided --timeout 901"), "901 is not in 1..=900"),
        (format!("{create} provided --timeout 0.5"), "--timeout <SECONDS>"),
        (format!("{create} provided --wait --no-wait"), "cannot be used with"),
        ("calve function update n".to_owned(), "--code <PATH>"),
        ("calve function update n --layer a --no-layers".to_owned(), "cannot be used with"),
        ("calve layer publish n".to_owned(), "--content <PATH>"),
        ("calve layer rm".to_owned(), "<VERSION>"),
        ("calve function invoke n".to_owned(), "--event <EVENT>"),
        ("calve function invoke n --event {} --async --route r".to_owned(), "cannot be used with"),
        ("calve event create f --kind queue --set X".to_owned(), "NAME=VALUE"),
        ("calve key create --data d".to_owned(), "--tenant <NAME>"),
        ("calve key ls --key a:b --data d".to_owned(), "'--key'"),
    ] {
        let text = refusal(&line);
        assert!(text.contains(wanted) && text.ends_with("--help`"), "{line}: {text}");
    }
}

#[test]
fn settings_are_json_where_they_can_be() {
    let cli = parse("calve event create f --kind k --set a=1 --set b=x=y --set c=true").unwrap();
    let Command::Event(Events { command: Event::Create(create), .. }) = cli.command else {
        panic!("{cli:?}")
    };
    let read = create.set.iter().map(|set| format!("{} {}", set.name, set.value));
    assert_eq!(read.collect::<Vec<_>>(), ["a 1", "b \"x=y\"", "c true"]);
}

#[test]
fn help_is_an_answer() {
    for line in ["calve --help", "calve --version", "calve snapshot build --help"] {
        assert!(usage::is_answer(&parse(line).unwrap_err()), "{line}");
    }
    assert!(!usage::is_answer(&parse("calve").unwrap_err()));
}
