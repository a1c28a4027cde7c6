//! A refer-a-friend program: every customer may refer others, so every sign-up is sent.

use bytes::Bytes;
use http::Request;
use tower_referral::ReferralKey;

use super::links::without_script_links;
use super::wire::{
    MADE, NewCustomer, Person, credited, customer_data, is_duplicate, is_unknown_customer,
    is_unknown_referrer,
};
use super::{
    At, PartneroFriends, SALE_FIELDS, Stage, friends, known_sale, look_up, looked_up, recorded,
    refunds, report_sales,
};
use crate::{
    Answer, Client, Error, ListedConversion, Pages, PlatformIds, Receipt, Repeat, Report,
    ReportApi, ReportError, Sale, Step, Transport, Unsupported,
};

impl PartneroFriends {
    /// Returns the customer of a sign-up or a sale.
    fn customer_of(&self, report: &Report, is_referred: bool) -> Result<Request<Bytes>, Error> {
        let Some(details) = report.details() else {
            return Err(Error::Unsupported(Unsupported::Kind(report.kind())));
        };
        let key = details.credit().and_then(|credit| credit.key());
        let referrer = key.filter(|_| is_referred).map(ReferralKey::as_str);
        let body = NewCustomer {
            referring_customer: referrer.map(if self.referrer_by_id {
                Person::by_id
            } else {
                Person::by_key
            }),
            key: report.customer(),
            id: report.customer(),
            metadata: customer_data(details),
            ..NewCustomer::of(&details.contact)
        };
        Ok(self.endpoint.post("/customers", &body))
    }

    /// The customer before the sale: nothing is sold yet, and customers are unique.
    fn customer_first(&self, report: &Report) -> Result<Step<Stage>, Error> {
        let mut request = self.customer_of(report, true)?;
        request.extensions_mut().insert(Repeat::Safe);
        Ok(Step::send(request, Stage(At::Customer)))
    }
}

impl ReportApi for PartneroFriends {
    type Stage = Stage;

    fn begin(&self, report: &Report, ids: &PlatformIds) -> Result<Step<Stage>, Error> {
        let person = ["metadata", "date_of_birth"];
        match report {
            Report::SignUp(_) => {
                self.options.check(report, &person)?;
                let request = self.customer_of(report, true)?;
                Ok(Step::send(request, Stage(At::SignUp)))
            }
            Report::Sale(sale) => {
                self.options
                    .check(report, &[&SALE_FIELDS[..], &person].concat())?;
                if sale.is_guest() {
                    self.customer_first(report)
                } else {
                    Ok(known_sale(&self.endpoint, sale, At::Sale))
                }
            }
            Report::Refund(refund) => {
                self.options.check(report, &[])?;
                let replaces = self.options.replaces_partly_refunded;
                refunds::begin(&self.endpoint, refund, replaces, ids)
            }
            _ => Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        }
    }

    fn next(
        &self,
        report: &Report,
        _: &PlatformIds,
        stage: Stage,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        let nobody = Ok(Receipt::not_attributed().into());
        let has_referrer = report.credit().is_some_and(|credit| credit.key().is_some());
        match (stage.0, report) {
            (At::LookUp(page), _) => looked_up(&self.endpoint, report, page, answer),
            (at, Report::Refund(refund)) => refunds::next(&self.endpoint, refund, at, answer),
            (At::Customer, Report::Sale(sale)) => {
                if !is_duplicate(answer) {
                    if is_unknown_referrer(answer) {
                        return nobody;
                    }
                    answer.shows(MADE)?;
                }
                Ok(known_sale(&self.endpoint, sale, At::LastSale))
            }
            (_, _) if is_duplicate(answer) => Ok(Receipt::duplicate().into()),
            (At::SignUp, Report::SignUp(_)) if has_referrer && is_unknown_referrer(answer) => {
                let request = self.customer_of(report, false)?;
                Ok(Step::send(request, Stage(At::SignUpAlone)))
            }
            (At::SignUp, _) if has_referrer => {
                Ok(credited(answer, "/data/referring_customer")?.into())
            }
            (At::SignUp | At::SignUpAlone, _) => {
                let mark = answer.shows(MADE)?;
                let data = without_script_links(answer.value()?);
                let receipt = match stage.0 {
                    At::SignUp => Receipt::recorded(mark),
                    _ => Receipt::not_attributed(),
                };
                Ok(receipt.with_data(data).into())
            }
            (At::Sale, Report::Sale(_)) if is_unknown_customer(answer) => {
                if has_referrer {
                    self.customer_first(report)
                } else {
                    nobody
                }
            }
            (At::LastSale, _) if is_unknown_customer(answer) => nobody,
            _ => recorded(answer),
        }
    }

    /// As with an affiliate program.
    fn deduplicates(&self, report: &Report) -> bool {
        match report {
            Report::SignUp(sign_up) => sign_up.customer().is_some(),
            Report::Refund(refund) => refund.completes_whole(),
            report => !matches!(report, Report::Sale(_)),
        }
    }

    fn settle(&self, report: &Report, _: &PlatformIds) -> Option<Step<Stage>> {
        look_up(&self.endpoint, report)
    }

    fn check_request(&self) -> Option<Request<Bytes>> {
        Some(self.endpoint.get("/test"))
    }
}

impl<T: Transport> Client<PartneroFriends, T> {
    /// Reports several sales of one customer in one request, as
    /// [`Client::<Partnero, _>::report_sales`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn report_sales(&self, sales: &[Sale]) -> Result<Receipt, ReportError> {
        let platform = self.platform();
        report_sales(self, &platform.endpoint, platform.options, sales).await
    }

    /// Lists what a customer has bought.
    ///
    /// # Errors
    ///
    /// The text isn't an ID.
    pub fn list_transactions(&self, customer: &str) -> Result<Pages<ListedConversion>, Error> {
        friends::transactions(self, &self.platform().endpoint, customer)
    }
}
