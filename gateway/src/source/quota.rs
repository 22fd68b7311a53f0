//! Shares of limits that all proxies count together: a stream to the replica that lends them, as long as there is such a limit. Requests
//! know nothing of it; while nobody lends, what was lent last runs out, and what is left of it counts ([`mesh_core::wire::Holder`]).

use std::sync::Arc;
use std::time::Duration;

use mesh_core::lb::RateCount;
use mesh_core::wire::{COME_AGAIN, Held, Holder, LEND, LENDER, MAX_QUOTA_MESSAGE, QuotaGrant, QuotaReport};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::ControllerOptions;
use super::controller::authorization;
use super::dial::connect;
use super::trouble::Trouble;
use crate::http::rate_limit;
use crate::live::{Cells, Live};

/// Shortest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest time for a stream to be opened, beside that for the connection.
const OPEN: Duration = Duration::from_secs(5);
/// Longest time to give back what is not needed any more.
const FAREWELL: Duration = Duration::from_secs(1);

/// Who asks for shares.
pub struct Quota {
    options: ControllerOptions,
    cells: Arc<Cells>,
    holder: Holder,
}

/// Why a stream could not be opened, or ended.
enum End {
    /// This one lends.
    Elsewhere(String),
    /// There is nothing to be lent any more.
    NotNeeded,
    /// In order: what lends may be another replica.
    Again(String),
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> End {
        End::Trouble(trouble)
    }
}

impl Quota {
    /// Starts it. It ends with the process.
    pub fn start(options: ControllerOptions, cells: Arc<Cells>) {
        tokio::spawn(Quota { options, cells, holder: Holder::default() }.run());
    }

    async fn run(mut self) {
        let mut wanted = self.cells.shares_wanted.subscribe();
        let mut pause = PAUSE;
        let mut lender = None;
        loop {
            if wanted.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            let mut granted = false;
            let (end, known) = (self.stream(lender.take(), &mut wanted, &mut granted).await, pause);
            if granted {
                pause = PAUSE;
            }
            match end {
                End::NotNeeded => continue,
                End::Elsewhere(address) => {
                    tracing::debug!(address, "another replica lends shares of rate limits");
                    lender = Some(address);
                }
                End::Again(why) => tracing::info!("shares of rate limits: connecting anew: {why}"),
                End::Trouble(trouble) => {
                    let retry_ms = pause.as_millis();
                    if granted || known == PAUSE {
                        tracing::warn!(
                            retry_ms,
                            "no shares of rate limits are lent; what was lent last counts: {trouble}"
                        );
                    } else {
                        tracing::debug!(retry_ms, "no shares of rate limits are lent: {trouble}");
                    }
                }
            }
            sleep(pause.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(COME_AGAIN);
        }
    }

    /// Until it ends. `granted`: whether something was lent.
    async fn stream(&mut self, lender: Option<String>, wanted: &mut watch::Receiver<bool>, granted: &mut bool) -> End {
        let opened = tokio::select! {
            opened = self.open(lender) => opened,
            _ = wanted.wait_for(|wanted| !*wanted) => return End::NotNeeded,
        };
        let (reports, mut grants) = match opened {
            Ok(opened) => opened,
            Err(end) => return end,
        };
        self.holder.begin(rate_limit::now());
        loop {
            let wait = Duration::from_nanos(self.holder.due().saturating_sub(rate_limit::now()));
            tokio::select! {
                grant = grants.message() => match grant {
                    Ok(Some(grant)) => *granted |= self.take(&grant),
                    Ok(None) => return End::Trouble(Trouble::Broken("the stream of shares ended".to_owned())),
                    Err(status) => return ended(status),
                },
                () = sleep(wait) => {
                    let report = self.holder.report(&held(&self.cells.live.load()), rate_limit::now());
                    // Nobody takes it: the connection is slow. It is out of date soon.
                    if let Err(mpsc::error::TrySendError::Closed(_)) = reports.try_send(report) {
                        return End::Trouble(Trouble::Broken("the stream of shares ended".to_owned()));
                    }
                }
                _ = wanted.wait_for(|wanted| !*wanted) => break,
            }
        }
        self.give_back(&reports, &mut grants).await;
        End::NotNeeded
    }

    /// Says that nothing is held any more: others may have it. Until that is answered, for who ends a stream does not know what of it arrives.
    async fn give_back(&mut self, reports: &mpsc::Sender<QuotaReport>, grants: &mut Streaming<QuotaGrant>) {
        let report = self.holder.report(&[], rate_limit::now());
        let sequence = report.sequence;
        let said = async {
            if reports.send(report).await.is_ok() {
                while let Ok(Some(grant)) = grants.message().await
                    && grant.sequence != sequence
                {}
            }
        };
        if timeout(FAREWELL, said).await.is_err() {
            tracing::debug!("whether shares of rate limits were given back is not known");
        }
    }

    fn take(&mut self, grant: &QuotaGrant) -> bool {
        let (live, now) = (self.cells.live.load(), rate_limit::now());
        self.holder.on_grant(grant, now, |name, lease, filled| {
            Some(live.limits.iter().find(|count| *count.name == *name)?.lend(lease, filled, now))
        })
    }

    async fn open(&self, lender: Option<String>) -> Result<(mpsc::Sender<QuotaReport>, Streaming<QuotaGrant>), End> {
        let authorization = authorization(&self.options.token).await?;
        let mut options = self.options.clone();
        if let Some(lender) = lender {
            options.address = lender;
        }
        let channel = connect(&options).await?;
        // Reports are sent when they are due; the connection takes one at a time.
        let (reports, outgoing) = mpsc::channel(1);
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_QUOTA_MESSAGE);
        let opened = async {
            grpc.ready().await.map_err(|error| Trouble::Broken(error.to_string()))?;
            let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
            request.metadata_mut().insert("authorization", authorization);
            let codec = tonic_prost::ProstCodec::<QuotaReport, QuotaGrant>::default();
            let path = http::uri::PathAndQuery::from_static(LEND);
            grpc.streaming(request, path, codec).await.map_err(ended)
        };
        let opened = timeout(OPEN, opened).await.map_err(|_| Trouble::Silent(options.address.clone()))?;
        Ok((reports, opened?.into_inner()))
    }
}

fn held(live: &Live) -> Vec<Held> {
    let held = |count: &Arc<RateCount>| {
        let share = count.share()?;
        Some(Held { name: Arc::clone(&count.name), asked: share.asked(), lease: share.held() })
    };
    live.limits.iter().filter_map(held).collect()
}

fn ended(status: Status) -> End {
    let told = status.metadata().get(LENDER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    match told.filter(|_| status.code() == Code::FailedPrecondition) {
        Some(address) => End::Elsewhere(address),
        None if status.code() == Code::Aborted => End::Again(status.message().to_owned()),
        None => End::Trouble(status.into()),
    }
}
