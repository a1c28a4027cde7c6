//! One client for all platforms, over any HTTP transport: it sends what a platform built, reads no
//! more of an answer than anyone needs, and keeps what was sent out of the errors.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use tower_referral::click::{Click, ClickRequest};

use crate::endpoint::ListPage;
use crate::sequence::Sequences;
use crate::transport::credentials;
use crate::{
    Answer, ClickApi, Error, PlatformIds, Receipt, Repeat, Report, ReportApi, ReportError,
    ReportRequest, Step, Transport, Unsupported, telemetry,
};

/// The longest answer that is read, in bytes. No platform's is anywhere near it.
const MAX_ANSWER_LEN: usize = 64 * 1024;

/// The longest page of a list that is read, in bytes: a hundred conversions with their metadata are
/// longer than any other answer.
pub(crate) const MAX_PAGE_LEN: usize = 1024 * 1024;

/// A platform over a transport: any Tower service from `http::Request<Bytes>` to an
/// `http::Response`.
///
/// The client follows no redirects, reads at most 64 KiB of an answer (1 MiB of a page of a list)
/// and repeats nothing that changes anything: that is for whoever holds the report, by the error's
/// [advice](ReportError::advice). Cheap to clone.
///
/// ```no_run
/// # #[cfg(feature = "https")] {
/// use tower_referral::Referral;
/// use tower_referral_platforms::{Client, Https, Money, Partnac, Sale};
///
/// # async fn paid(api_key: &str, referral: Option<Referral>) -> Result<(), Box<dyn std::error::Error>> {
/// let platform = Client::new(Partnac::new(api_key)?, Https::new()); // the line that changes
/// platform.check().await?; // a wrong key is told at start-up, before the first sale
///
/// let sale = Sale::new("ORDER-1", "CUSTOMER-1", Money::new("99.99", "EUR")?)?;
/// let receipt = platform.report(sale.referral(referral.as_ref())).await?;
/// println!("credited: {}", receipt.is_credited());
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Debug)]
pub struct Client<P, T> {
    platform: Arc<P>,
    transport: T,
    sequences: Sequences,
}

impl<P, T> Client<P, T> {
    /// Creates a client for `platform` over `transport`.
    pub fn new(platform: P, transport: T) -> Self {
        Self {
            platform: Arc::new(platform),
            transport,
            sequences: Sequences::default(),
        }
    }

    /// Tells the platform of a report, once: nothing is repeated here. What to do about a failure is
    /// in the error's [advice](ReportError::advice).
    ///
    /// What changes an order goes one at a time for each order: several processes that report
    /// refunds of one order see to that by [`Report::sequence_key`].
    ///
    /// There is no timeout but the transport's; [`Https`](crate::Https) has one.
    ///
    /// # Errors
    ///
    /// The platform couldn't be told, or refused.
    /// [`Outcome::NotAttributed`](crate::Outcome::NotAttributed) is no error.
    pub async fn report(&self, report: impl Into<Report>) -> Result<Receipt, ReportError>
    where
        P: ReportApi,
        T: Transport,
    {
        self.send_report(&ReportRequest::new(report)).await
    }

    /// Tells the platform of a report, with what is known from before.
    ///
    /// # Errors
    ///
    /// As [`report`](Self::report).
    pub async fn send_report(&self, request: &ReportRequest) -> Result<Receipt, ReportError>
    where
        P: ReportApi,
        T: Transport,
    {
        let turn = match &request.report {
            Report::SignUp(_) | Report::Sale(_) | Report::Cancellation(_) => None,
            report => Some(self.sequences.turn(report.sequence_key()).await),
        };
        let result = self.exchange(request).await;
        drop(turn);
        telemetry::note_report(&request.report, &result);
        result
    }

    async fn exchange(&self, asked: &ReportRequest) -> Result<Receipt, ReportError>
    where
        P: ReportApi,
        T: Transport,
    {
        let (platform, report) = (&*self.platform, &asked.report);
        if is_zero_sale(report) {
            return Ok(Receipt::not_attributed());
        }
        let mut ids = asked.ids.clone();
        let mut learned = PlatformIds::default();
        let mut is_repeatable = true; // as long as nothing was sent
        // The platform has answered the report itself, and every question about it since.
        let mut is_answered = false;
        let mut step = if asked.may_have_arrived && !platform.deduplicates(report) {
            is_repeatable = false;
            platform.settle(report, &ids).ok_or(Error::UnknownOutcome)
        } else {
            self.begin(asked)
        };
        loop {
            let (next, stage) = match step {
                Ok(Step::Done(receipt)) => {
                    let ids = receipt.ids().clone().or(&learned);
                    return Ok(receipt.with_ids(ids));
                }
                Ok(Step::Send {
                    request,
                    stage,
                    ids: new,
                }) => {
                    if !new.is_empty() {
                        // Should we be killed during the next call, they are needed for another try.
                        asked.tell_ids(&new).await;
                    }
                    ids = new.clone().or(&ids);
                    learned = new.or(&learned);
                    (request, stage)
                }
                Err(error) => {
                    let error = if is_answered {
                        error
                    } else {
                        error.unsettled(asked.may_have_arrived)
                    };
                    let can_be_settled = platform.settle(report, &ids).is_some();
                    return Err(ReportError::new(error, is_repeatable)
                        .settled_by_list(can_be_settled)
                        .with_ids(learned));
                }
            };
            let is_harmless = match next.extensions().get() {
                Some(Repeat::Safe) => true,
                Some(Repeat::Unsafe) => false,
                None => next.method().is_safe(),
            };
            is_repeatable = is_harmless || platform.deduplicates(report);
            let page = next.extensions().get().copied();
            let max_len = page.map_or(MAX_ANSWER_LEN, |ListPage(_)| MAX_PAGE_LEN);
            step = match self.send(next, max_len).await {
                Ok(answer) => {
                    let answer = answer.without(report.secrets());
                    is_answered = !is_harmless || is_answered && is_read(&answer, page);
                    platform.next(report, &ids, stage, &answer)
                }
                Err(error) => Err(error),
            };
        }
    }

    /// Returns the first step of a report. What is about a sale that the platform doesn't have needs no
    /// ID of it.
    fn begin(&self, asked: &ReportRequest) -> Result<Step<P::Stage>, Error>
    where
        P: ReportApi,
    {
        match self.platform.begin(&asked.report, &asked.ids) {
            Err(Error::MissingId(_)) if asked.is_about_unrecorded() => {
                Ok(Receipt::not_attributed().into())
            }
            step => step,
        }
    }

    /// Tells the platform of several reports in one request, where it takes
    /// [batches](crate::ReportService::batch): a result for each, in their order.
    pub async fn report_batch(&self, reports: &[ReportRequest]) -> Vec<Result<Receipt, ReportError>>
    where
        P: ReportApi,
        T: Transport,
    {
        let settled: Vec<_> = reports
            .iter()
            .map(|one| self.without_sending(one))
            .collect();
        let rest = reports.iter().zip(&settled);
        let rest = rest.filter(|(_, settled)| settled.is_none());
        let rest: Vec<_> = rest.map(|(request, _)| request.clone()).collect();
        let mut results = self.send_batch(&rest).await.into_iter();
        let results = reports.iter().zip(settled).map(|(request, settled)| {
            let result = settled.unwrap_or_else(|| {
                // A platform that gives fewer results than it was given reports says nothing of the
                // rest.
                let result = results.next().unwrap_or(Err(Error::UnknownOutcome));
                let is_repeatable = self.platform.deduplicates(&request.report);
                result.map_err(|error| ReportError::new(error, is_repeatable))
            });
            telemetry::note_report(&request.report, &result);
            result
        });
        results.collect()
    }

    async fn send_batch(&self, reports: &[ReportRequest]) -> Vec<Result<Receipt, Error>>
    where
        P: ReportApi,
        T: Transport,
    {
        if reports.is_empty() {
            return Vec::new();
        }
        let answer = match self.platform.batch_request(reports) {
            // It may have something on each report.
            Ok(request) => self.send(request, MAX_PAGE_LEN).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => {
                let secrets = reports.iter().flat_map(|request| request.report.secrets());
                self.platform.read_batch(reports, &answer.without(secrets))
            }
            Err(error) => {
                let of = |one: &ReportRequest| Err(error.clone().unsettled(one.may_have_arrived));
                reports.iter().map(of).collect()
            }
        }
    }

    /// Returns the result of a report of which nothing goes into a batch: it credits nobody, can't be
    /// taken, or may have arrived before.
    pub(crate) fn without_sending(
        &self,
        request: &ReportRequest,
    ) -> Option<Result<Receipt, ReportError>>
    where
        P: ReportApi,
    {
        let report = &request.report;
        if is_zero_sale(report) {
            return Some(Ok(Receipt::not_attributed()));
        }
        if request.may_have_arrived && !self.platform.deduplicates(report) {
            return Some(Err(ReportError::new(Error::UnknownOutcome, false)));
        }
        match self.begin(request) {
            Ok(Step::Send { .. }) => None,
            Ok(Step::Done(receipt)) => Some(Ok(receipt)),
            Err(error) => {
                let error = error.unsettled(request.may_have_arrived);
                Some(Err(ReportError::new(error, true)))
            }
        }
    }

    /// Checks the API key and the way to the platform, by a request that changes nothing: at
    /// start-up, before the first sale.
    ///
    /// # Errors
    ///
    /// The platform doesn't take the key, can't be reached, or has no such request
    /// ([`Unsupported::Check`]).
    pub async fn check(&self) -> Result<(), Error>
    where
        P: ReportApi,
        T: Transport,
    {
        let request = self.platform.check_request();
        let request = request.ok_or(Error::Unsupported(Unsupported::Check))?;
        let answer = self.send(request, MAX_ANSWER_LEN).await?;
        self.platform.read_check(&answer)
    }

    /// Creates a click at the platform, once, for what a [`Clicks`](tower_referral::click::Clicks) doesn't
    /// see: the landing in a native app, or a redirect of the shop's own.
    ///
    /// # Errors
    ///
    /// The platform couldn't be told, or refused.
    pub async fn create_click(&self, click: &ClickRequest) -> Result<Click, Error>
    where
        P: ClickApi,
        T: Transport,
    {
        let request = self.platform.click_request(click);
        self.send_click(request, click.visitor_texts()).await
    }

    /// Sends a click, reads what the platform created, and counts it.
    pub(crate) async fn send_click(
        &self,
        request: Request<Bytes>,
        secrets: impl IntoIterator<Item = String>,
    ) -> Result<Click, Error>
    where
        P: ClickApi,
        T: Transport,
    {
        let result = match self.send(request, MAX_ANSWER_LEN).await {
            Ok(answer) => self
                .platform
                .read_click(&answer.without(secrets.into_iter())),
            Err(error) => Err(error),
        };
        telemetry::note_click(&result);
        result
    }

    pub(crate) fn platform(&self) -> &Arc<P> {
        &self.platform
    }

    /// Sends one request for what only one platform has. `is_repeatable` says whether it does no
    /// harm a second time.
    pub(crate) async fn tell(
        &self,
        request: Request<Bytes>,
        secrets: impl Iterator<Item = &str>,
        is_repeatable: bool,
    ) -> Result<Answer, ReportError>
    where
        T: Transport,
    {
        match self.send(request, MAX_ANSWER_LEN).await {
            Ok(answer) => Ok(answer.without(secrets)),
            Err(error) => Err(ReportError::new(error, is_repeatable)),
        }
    }

    /// Sends one request that isn't a report.
    pub(crate) async fn ask(&self, request: Request<Bytes>) -> Result<Answer, Error>
    where
        T: Transport,
    {
        self.send(request, MAX_ANSWER_LEN).await
    }

    /// Sends one request on a transport of its own, once that is ready.
    pub(crate) async fn send(
        &self,
        request: Request<Bytes>,
        max_len: usize,
    ) -> Result<Answer, Error>
    where
        T: Transport,
    {
        let credentials = credentials(&request);
        let answer = self.transport.carry(request, max_len).await?;
        Ok(answer.without(credentials.iter().map(String::as_str)))
    }
}

/// Returns `true` if an answer to a question says something: where the question is for a page of a
/// list, it has the list.
fn is_read(answer: &Answer, page: Option<ListPage>) -> bool {
    match page {
        Some(ListPage(names)) => answer.accepted().is_ok() && answer.list(names).is_some(),
        None => answer.accepted_json().is_ok(),
    }
}

/// Nothing was paid, so there is no commission.
fn is_zero_sale(report: &Report) -> bool {
    matches!(report, Report::Sale(sale) if sale.amount().is_zero())
}

impl<P, T: Clone> Clone for Client<P, T> {
    fn clone(&self) -> Self {
        Self {
            platform: Arc::clone(&self.platform),
            transport: self.transport.clone(),
            sequences: self.sequences.clone(),
        }
    }
}
