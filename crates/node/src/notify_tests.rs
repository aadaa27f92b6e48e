use super::*;

#[test]
fn a_warning_reaches_the_shell_quoted_and_without_what_it_could_act_on() {
    let warning = "Warning: it's `reboot`; $(rm -r ~) & more (bit 3)";
    assert_eq!(
        alert_command("echo %s >> alerts", warning),
        "echo 'Warning: its reboot; (rm -r )  more (bit 3)' >> alerts"
    );
}

#[tokio::test]
async fn each_warning_runs_the_command_once_while_it_stands() {
    use ironpeer_primitives::FixedClock;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alerts");
    let log = Arc::new(Log::new(crate::log::LogConfig::silent(), Arc::new(FixedClock::at(0))));
    let (sender, receiver) = watch::channel(ChainWarnings::default());
    let command = format!("echo %s >> {}", file.display());
    let following = tokio::spawn(follow_warnings(receiver, command, CancellationToken::new(), log));
    let lines = |wanted: usize| {
        let file = file.clone();
        async move {
            loop {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                if text.lines().count() >= wanted && text.ends_with('\n') {
                    return text;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    sender.send_modify(|warnings| warnings.unknown_rules.push(3));
    assert_eq!(lines(1).await, "Unknown new rules activated (versionbit 3)\n");
    // The first is not told again beside the second.
    sender.send_modify(|warnings| warnings.large_invalid_chain = true);
    let text = lines(2).await;
    assert!(text.lines().nth(1).unwrap().starts_with("Warning: Found invalid chain more than 6"), "{text}");
    drop(sender);
    following.await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}
