#![allow(clippy::unwrap_used, clippy::panic)]
use mesh_core::acme::KeptFailure;

use super::*;
use crate::Kept;

/// Has nothing but an account, or cannot say.
struct Room(Result<Option<Vec<u8>>, String>);

impl House for Room {
    type Shown = ();

    async fn account(&self) -> Result<Option<Vec<u8>>, String> {
        self.0.clone()
    }

    async fn keep_account(&self, _: Vec<u8>) -> Result<(), String> {
        panic!("an account is kept")
    }

    async fn show(&self, _: &Name, _: Proof) -> Result<(), Failure> {
        Ok(())
    }

    async fn kept(&self, _: &Name) -> Kept {
        Kept::default()
    }

    async fn prepare(&self, _: &Name) -> Result<(), Failure> {
        Ok(())
    }

    async fn keep(&self, _: &Name, _: &Issued) -> Result<Option<String>, Failure> {
        Ok(None)
    }

    async fn keep_failure(&self, _: &Name, _: Option<KeptFailure>) -> Result<(), String> {
        Ok(())
    }

    async fn sign(&self, _: &Name) -> Result<Issued, Failure> {
        Err(Failure::new(Trouble::Refused, "no"))
    }

    async fn lock(&self) -> Result<bool, String> {
        Ok(true)
    }

    fn unlock(&self) {}
}

/// The CA is not there: whoever would register is told so.
async fn trouble(account: Result<Option<Vec<u8>>, String>) -> Trouble {
    let options = crate::Options {
        directory: "http://127.0.0.1:1/".to_owned(),
        own_directory: true,
        ca: None,
        email: None,
        profile: None,
        binding: None,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let ca = Ca::new(Arc::new(options), Arc::new(Room(account)), provider);
    let Err(failure) = ca.account(None).await else { panic!("there is no CA") };
    failure.trouble
}

#[tokio::test]
async fn an_account_that_cannot_be_read_is_not_replaced() {
    assert_eq!(trouble(Err("the API server is away".to_owned())).await, Trouble::Storage);
    assert_eq!(trouble(Ok(Some(b"{}".to_vec()))).await, Trouble::Storage);
    assert_eq!(trouble(Ok(None)).await, Trouble::Unreachable, "only what is not there is made");
}
