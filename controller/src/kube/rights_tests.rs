use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::*;

fn account(name: &str) -> Account {
    Account { namespace: "shop".to_owned(), name: name.to_owned() }
}

/// Answers in this order; then what it said last.
struct Script {
    answers: Mutex<VecDeque<Result<bool, String>>>,
    asked: Mutex<Vec<(Account, Instant)>>,
}

impl Script {
    fn of(answers: impl IntoIterator<Item = Result<bool, String>>) -> Arc<Script> {
        Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() })
    }

    /// Seconds between the questions.
    fn pauses(&self) -> Vec<f64> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.windows(2).map(|pair| (pair[1].1 - pair[0].1).as_secs_f64()).map(|pause| pause.round()).collect()
    }
}

#[async_trait]
impl Authorize for Script {
    async fn may_read_secrets(&self, account: &Account) -> Result<bool, String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((account.clone(), Instant::now()));
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.unwrap_or_else(|| Err("nothing is said".to_owned()))
    }
}

fn asking(script: &Arc<Script>) -> Rights {
    let (rights, questions) = Rights::new();
    let authorize: Arc<dyn Authorize> = script.clone();
    tokio::spawn(questions.ask(authorize, Reviews::new().unwrap()));
    rights
}

async fn next(rights: &mut Rights) -> SecretAccess {
    let answer = rights.answer().await;
    let about = answer.0.clone();
    rights.take(answer);
    rights.of(&about)
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_who_needs_nothing_and_answers_count_a_minute() {
    let script = Script::of([Ok(true), Ok(true), Ok(false)]);
    let mut rights = asking(&script);
    assert!(tokio::time::timeout(Duration::from_secs(600), rights.answer()).await.is_err());
    rights.want([account("a")].into());
    assert_eq!(rights.of(&account("a")), SecretAccess::Pending);
    for wanted in [SecretAccess::Allowed, SecretAccess::Allowed, SecretAccess::Denied] {
        assert_eq!(next(&mut rights).await, wanted);
    }
    assert_eq!(script.pauses(), [60.0, 60.0]);
    // Of who needs it no more nothing is kept, and nobody is asked.
    rights.want(BTreeSet::new());
    assert_eq!(rights.of(&account("a")), SecretAccess::Pending);
    assert!(tokio::time::timeout(Duration::from_secs(600), rights.answer()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_no_answer_and_is_tried_again_later_and_later() {
    let away = || Err("away".to_owned());
    let answers = [vec![away(); 9], vec![Ok(true)], vec![away(); 3], vec![Ok(false)]].concat();
    let script = Script::of(answers);
    let mut rights = asking(&script);
    rights.want([account("a")].into());
    for _ in 0..9 {
        assert_eq!(next(&mut rights).await, SecretAccess::Unknown);
    }
    // An answer stays in force until there is another one.
    for _ in 0..4 {
        assert_eq!(next(&mut rights).await, SecretAccess::Allowed);
    }
    assert_eq!(next(&mut rights).await, SecretAccess::Denied);
    let pauses = script.pauses();
    assert_eq!(pauses[..9], [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    assert_eq!(pauses[9..], [60.0, 1.0, 1.0, 2.0]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_question_of_before_is_none() {
    let (mut rights, _questions) = Rights::new();
    rights.want([account("a")].into());
    rights.want([account("b")].into());
    rights.take((account("a"), SecretAccess::Allowed));
    rights.want([account("a")].into());
    assert_eq!(rights.of(&account("a")), SecretAccess::Pending);
}
