use super::*;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn args(line: &str, conf: &str) -> Args {
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    args.parse_command_line(&words(line)).unwrap();
    args.read_config(conf, "bitcoin.conf").unwrap();
    let network = args.chain().unwrap();
    args.select_network(network);
    args
}

#[test]
fn every_option_is_listed_once() {
    for tables in [[options::CHAIN, options::DAEMON], [options::CHAIN, options::CLI]] {
        let mut seen = std::collections::BTreeSet::new();
        for opt in Args::new(&tables).known() {
            assert!(seen.insert(opt.name), "{} twice", opt.name);
            assert!(!opt.name.starts_with("no"), "{} would read as a negation", opt.name);
        }
    }
}

#[test]
fn dashes_values_and_negations() {
    let args = args("-par=3 --server -nolisten -nodnsseed=0 -debug=net -debug", "");
    assert_eq!(args.int("par"), Some(3));
    assert_eq!(args.bool("server"), Some(true));
    assert_eq!(args.bool("listen"), Some(false));
    assert!(args.is_negated("listen"));
    assert_eq!(args.bool("dnsseed"), Some(true), "a double negative is on");
    assert_eq!(args.list("debug"), ["net", ""]);
    assert_eq!(args.text("listen").as_deref(), Some("0"));
    assert!(!args.is_set("rest"));
}

#[test]
fn wrong_command_lines_are_named() {
    let error = |line: &str| {
        Args::new(&[options::CHAIN, options::DAEMON]).parse_command_line(&words(line)).unwrap_err().0
    };
    assert_eq!(error("-fakearg=1"), "Invalid parameter -fakearg=1");
    assert_eq!(error("--fakearg"), "Invalid parameter --fakearg");
    assert_eq!(error("-regtest.port=1"), "Invalid parameter -regtest.port=1");
    assert_eq!(error("-nodatadir"), "Negating of -datadir is meaningless and therefore forbidden");
    assert_eq!(
        error("-loglevel"),
        "Can not set -loglevel with no value. Please specify value with -loglevel=value."
    );
    assert_eq!(error("-includeconf=x"), "-includeconf cannot be used from commandline; -includeconf=\"x\"");
}

#[test]
fn the_last_wins_on_the_line_and_the_first_in_the_file() {
    let args = args("-par=1 -par=2", "dbcache=5\ndbcache=6\npar=9\n");
    assert_eq!(args.int("par"), Some(2));
    assert_eq!(args.int("dbcache"), Some(5));
}

#[test]
fn a_section_outranks_the_default_section() {
    let conf = "par=1\nport=1\nrpcuser=a\n[regtest]\npar=2\nregtest.rpcuser=no\n[test]\npar=3\n";
    let args = args("-regtest", conf);
    assert_eq!(args.int("par"), Some(2));
    assert_eq!(args.int("port"), None, "a network's own option in the default section is for main");
    assert_eq!(args.unsuitable_section_only(), ["port"]);
    assert_eq!(args.text("rpcuser").as_deref(), Some("a"));
}

#[test]
fn on_the_main_network_the_default_section_counts_for_all() {
    let args = args("", "port=7\nconnect=1.2.3.4\n");
    assert_eq!(args.int("port"), Some(7));
    assert_eq!(args.list("connect"), ["1.2.3.4"]);
    assert!(args.unsuitable_section_only().is_empty());
}

#[test]
fn lists_join_sources_until_a_negation() {
    assert_eq!(args("-debug=a -debug=b", "debug=c\n").list("debug"), ["a", "b", "c"]);
    assert_eq!(args("-nodebug", "debug=c\n").list("debug"), [] as [&str; 0]);
    assert_eq!(args("-debug=a -nodebug -debug=b", "debug=c\n").list("debug"), ["b", "c"]);
    assert_eq!(args("", "debug=a\nnodebug=1\ndebug=b\n").list("debug"), ["b"]);
}

#[test]
fn the_chain_is_chosen_by_name_or_flag() {
    assert_eq!(args("", "").chain(), Ok(Network::Bitcoin));
    assert_eq!(args("-chain=test", "").chain(), Ok(Network::Testnet));
    assert_eq!(args("", "regtest=1\n").chain(), Ok(Network::Regtest));
    assert_eq!(args("-noregtest", "regtest=1\n").chain(), Ok(Network::Regtest), "Core passes over it");
    let mut two = Args::new(&[options::CHAIN]);
    two.parse_command_line(&words("-regtest -signet")).unwrap();
    assert_eq!(
        two.chain().unwrap_err().0,
        "Invalid combination of -regtest, -signet, -testnet, -testnet4 and -chain. Can use at most one."
    );
    let mut odd = Args::new(&[options::CHAIN]);
    odd.parse_command_line(&words("-chain=mars")).unwrap();
    assert_eq!(odd.chain().unwrap_err().0, "Unknown chain mars.");
}

#[test]
fn lines_that_are_no_setting_are_named() {
    let error =
        |conf: &str| Args::new(&[options::CHAIN, options::DAEMON]).read_config(conf, "f").unwrap_err().0;
    assert_eq!(
        error("par=1\nnonsense\n"),
        "parse error on line 2: nonsense, if you intended to specify a negated option, use nonsense=1 instead"
    );
    assert_eq!(error("server"), "parse error on line 1: server");
    assert_eq!(
        error("-dash=1\n"),
        "parse error on line 1: -dash=1, options in configuration file must be specified without leading -"
    );
    assert_eq!(
        error("rpcpassword=a#b"),
        "parse error on line 1, using # in rpcpassword can be ambiguous and should be avoided"
    );
    assert_eq!(
        error("conf=x"),
        "conf cannot be set in the configuration file; use includeconf= if you want to include additional config files"
    );
}

#[test]
fn unknown_settings_and_sections_are_noted() {
    let mut args = args("", "wallet_of_tomorrow=1\n[moon]\npar=1\n");
    let sections: Vec<_> = args.unrecognized_sections().iter().map(|s| (s.name.clone(), s.line)).collect();
    assert_eq!(sections, [("moon".to_owned(), 2)]);
    assert_eq!(
        args.take_notes(),
        [LogLine::warning("Ignoring unknown configuration value wallet_of_tomorrow")]
    );
}

#[test]
fn included_files_are_read_once_and_settings_written() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("bitcoin.conf", "regtest=1\nincludeconf=more.conf\n[regtest]\nincludeconf=reg.conf\n");
    write("more.conf", "par=4\nincludeconf=never.conf\n");
    write("reg.conf", "[regtest]\nrpcport=1234\n");
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    args.parse_command_line(&[format!("-datadir={}", dir.path().display())]).unwrap();
    let warnings = args.read_config_files().unwrap();
    assert_eq!(
        warnings,
        ["warning: -includeconf cannot be used from included files; ignoring -includeconf=never.conf"]
    );
    args.select_network(args.chain().unwrap());
    assert_eq!((args.int("par"), args.int("rpcport")), (Some(4), Some(1234)));

    std::fs::create_dir(dir.path().join("regtest")).unwrap();
    write("regtest/settings.json", "{\"par\": \"7\", \"wallet\": [\"a\", \"b\"]}");
    args.read_settings_file().unwrap();
    assert_eq!(args.int("par"), Some(7), "settings.json outranks the file");
    assert_eq!(args.list("wallet"), ["a", "b"]);
    args.write_settings_file().unwrap();
    let text = std::fs::read_to_string(dir.path().join("regtest/settings.json")).unwrap();
    assert!(text.contains("_warning_") && text.contains("\"par\": \"7\""), "{text}");
    write("regtest/settings.json", "[1]");
    assert!(
        args.read_settings_file().unwrap_err().0.starts_with("Found non-object value [1] in settings file")
    );
}

#[test]
fn paths_lose_dots_and_trailing_slashes() {
    let args = args("-datadir=/tmp/./a/../b/ -nosettings", "");
    assert_eq!(args.path("datadir"), Some(PathBuf::from("/tmp/b")));
    assert_eq!(args.path("settings"), Some(PathBuf::new()));
    assert_eq!(args.path("conf"), None);
}

#[test]
fn numbers_read_as_far_as_they_go() {
    for (text, value) in
        [("12", 12), (" -7x", -7), ("+3", 3), ("x", 0), ("", 0), ("99999999999999999999", i64::MAX)]
    {
        assert_eq!(atoi(text), value, "{text:?}");
    }
}

#[test]
fn missing_features_are_told_apart() {
    let args = args("-ipcbind=unix -splash -rest=0 -wallet=x", "");
    let mut found: Vec<_> = args.without_effect().iter().map(|(opt, refused)| (opt.name, *refused)).collect();
    found.sort_unstable();
    assert_eq!(found, [("ipcbind", true), ("splash", false), ("wallet", false)]);
}

#[test]
fn help_names_options_and_hides_debug_ones() {
    let args = args("", "");
    let help = help_message(&args);
    assert!(help.starts_with("Options:\n\n"));
    assert!(help.contains("  -datadir=<dir>\n       Data directory"));
    assert!(!help.contains("-stopatheight"));
    assert!(help.lines().all(|line| line.len() <= 79));
}

/// What is set stands in the log, but no password.
#[test]
fn secrets_are_not_logged() {
    let line = "-rpcpassword=hunter2 -rpcuser=alice -rpcauth=bob:salt$hunter2 -torpassword=hunter2 -par=3";
    let mut args = args(line, "rpcpassword=hunter2\nrpcauth=carol:salt$hunter2\n[main]\nrpcuser=hunter2\n");
    args.rw_settings.insert("rpcpassword".to_owned(), "hunter2".into());
    let lines: Vec<String> = args.summary().into_iter().map(|line| line.text.into_owned()).collect();
    assert!(lines.iter().all(|line| !line.contains("hunter2")), "{lines:?}");
    for shown in [
        "Command-line arg: rpcpassword=****",
        "Config file arg: rpcauth=****",
        "Setting file arg: rpcpassword = ****",
    ] {
        assert!(lines.contains(&shown.to_owned()), "{lines:?}");
    }
}
