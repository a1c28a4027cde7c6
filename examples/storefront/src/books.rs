//! The shop's own rows: customers, orders and refunds. Each statement is one round trip, and a row
//! that is written is locked until the transaction ends, so that two webhooks about one order come
//! one after the other.

use rust_decimal::Decimal;
use sqlx::FromRow;
use tower_referral_outbox::Error;
use tower_referral_platforms::{Credit, Money};

use crate::database::{Transaction, execute, query};

#[derive(Clone, Debug, FromRow)]
pub(crate) struct Customer {
    pub(crate) email: Option<String>,
    pub(crate) name: Option<String>,
    credit: Option<String>,
    pub(crate) sign_ups: i64,
    pub(crate) is_erased: bool,
}

#[derive(Clone, Debug, FromRow)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) customer: Option<String>,
    amount: Option<String>,
    pub(crate) coupon: Option<String>,
    credit: Option<String>,
    pub(crate) is_guest: bool,
    pub(crate) deliveries: i64,
    pub(crate) is_erased: bool,
}

#[derive(Clone, Debug, FromRow)]
pub(crate) struct Refund {
    pub(crate) refund: String,
    pub(crate) refund_id: Option<String>,
    amount: Option<String>,
}

impl Customer {
    /// Returns whom all payments of the customer credit.
    pub(crate) fn credit(&self) -> Option<Credit> {
        read(self.credit.as_deref())
    }
}

impl Order {
    /// Returns what was paid; `None` while only a refund of the order is known.
    pub(crate) fn amount(&self) -> Option<Money> {
        self.amount.as_deref()?.parse().ok()
    }

    pub(crate) fn credit(&self) -> Option<Credit> {
        read(self.credit.as_deref())
    }
}

impl Refund {
    /// Returns how much went back; `None` for all that is left, before the sale is known.
    pub(crate) fn amount(&self) -> Option<Decimal> {
        self.amount.as_deref()?.parse().ok()
    }

    pub(crate) fn with_amount(mut self, amount: Decimal) -> Self {
        self.amount = Some(amount.to_string());
        self
    }
}

fn read(json: Option<&str>) -> Option<Credit> {
    serde_json::from_str(json?).ok()
}

fn written(credit: Option<&Credit>) -> Option<String> {
    credit.and_then(|credit| serde_json::to_string(credit).ok())
}

impl Transaction {
    /// Signs a customer up. The first time decides; a guest's credit stays.
    pub(crate) async fn sign_up(
        &mut self,
        customer: &str,
        email: Option<&str>,
        name: Option<&str>,
        credit: Option<&Credit>,
    ) -> Result<Customer, Error> {
        const SIGN_UP: &str = "
            INSERT INTO customers AS c (customer, email, name, credit, sign_ups)
            VALUES ($1, $2, $3, $4, 1)
            ON CONFLICT (customer) DO UPDATE SET
                email = CASE WHEN c.sign_ups = 0 THEN excluded.email ELSE c.email END,
                name = CASE WHEN c.sign_ups = 0 THEN excluded.name ELSE c.name END,
                credit = CASE WHEN c.sign_ups = 0 THEN coalesce(c.credit, excluded.credit)
                    ELSE c.credit END,
                is_erased = c.is_erased AND c.sign_ups > 0,
                sign_ups = c.sign_ups + 1
            RETURNING *";
        let credit = written(credit);
        Ok(query!(
            self, fetch_one, SIGN_UP, customer, email, name, credit
        ))
    }

    /// Finds a customer, or notes that there is a guest. The credit of a first payment is that of
    /// all later ones.
    pub(crate) async fn pays(
        &mut self,
        customer: &str,
        credit: Option<&Credit>,
    ) -> Result<Customer, Error> {
        const PAYS: &str = "
            INSERT INTO customers AS c (customer, credit) VALUES ($1, $2)
            ON CONFLICT (customer) DO UPDATE SET
                credit = CASE WHEN c.is_erased THEN NULL
                    ELSE coalesce(c.credit, excluded.credit) END
            RETURNING *";
        let credit = written(credit);
        Ok(query!(self, fetch_one, PAYS, customer, credit))
    }

    pub(crate) async fn customer(&mut self, customer: &str) -> Result<Option<Customer>, Error> {
        const CUSTOMER: &str = "SELECT * FROM customers WHERE customer = $1";
        Ok(query!(self, fetch_optional, CUSTOMER, customer))
    }

    /// Books a payment. The first delivery decides on customer and amount, and the first credit
    /// stays.
    pub(crate) async fn order(
        &mut self,
        order: &str,
        customer: &str,
        amount: &str,
        coupon: Option<&str>,
        credit: Option<&Credit>,
    ) -> Result<Order, Error> {
        const ORDER: &str = "
            INSERT INTO orders AS o (order_id, customer, amount, coupon, credit, deliveries)
            VALUES ($1, $2, $3, $4, $5, 1)
            ON CONFLICT (order_id) DO UPDATE SET
                customer = coalesce(o.customer, excluded.customer),
                amount = coalesce(o.amount, excluded.amount),
                coupon = CASE WHEN o.deliveries = 0 THEN excluded.coupon ELSE o.coupon END,
                credit = CASE WHEN o.is_erased THEN NULL
                    ELSE coalesce(o.credit, excluded.credit) END,
                deliveries = o.deliveries + 1
            RETURNING *";
        let credit = written(credit);
        Ok(query!(
            self, fetch_one, ORDER, order, customer, amount, coupon, credit
        ))
    }

    /// Completes an order with what its customer's row says.
    pub(crate) async fn complete_order(
        &mut self,
        order: &mut Order,
        is_guest: bool,
        credit: Option<&Credit>,
    ) -> Result<(), Error> {
        const COMPLETE: &str = "
            UPDATE orders SET is_guest = $2, credit = coalesce(credit, $3)
            WHERE order_id = $1 AND NOT is_erased";
        order.is_guest = is_guest;
        if order.credit.is_none() && !order.is_erased {
            order.credit = written(credit);
        }
        execute!(self, COMPLETE, &order.order_id, is_guest, &order.credit);
        Ok(())
    }

    /// Locks the row of an order, which is there from now on.
    pub(crate) async fn lock_order(&mut self, order: &str) -> Result<Order, Error> {
        const LOCK: &str = "
            INSERT INTO orders AS o (order_id) VALUES ($1)
            ON CONFLICT (order_id) DO UPDATE SET order_id = o.order_id
            RETURNING *";
        Ok(query!(self, fetch_one, LOCK, order))
    }

    pub(crate) async fn orders_of(&mut self, customer: &str) -> Result<Vec<Order>, Error> {
        const ORDERS: &str = "SELECT * FROM orders WHERE customer = $1 ORDER BY order_id";
        Ok(query!(self, fetch_all, ORDERS, customer))
    }

    pub(crate) async fn refunds_of(&mut self, order: &str) -> Result<Vec<Refund>, Error> {
        const REFUNDS: &str = "SELECT * FROM refunds WHERE order_id = $1 ORDER BY refund";
        Ok(query!(self, fetch_all, REFUNDS, order))
    }

    /// Notes a refund, or that one which was noted is reported now.
    pub(crate) async fn note_refund(
        &mut self,
        order: &str,
        refund: &str,
        refund_id: Option<&str>,
        amount: Option<Decimal>,
        is_reported: bool,
    ) -> Result<(), Error> {
        const NOTE: &str = "
            INSERT INTO refunds (order_id, refund, refund_id, amount, is_reported)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (order_id, refund) DO UPDATE SET
                amount = excluded.amount, is_reported = excluded.is_reported";
        let amount = amount.map(|amount| amount.normalize().to_string());
        execute!(self, NOTE, order, refund, refund_id, amount, is_reported);
        Ok(())
    }

    /// Returns how many refunds wait for their sale here, where the outbox can't know of them.
    pub(crate) async fn waiting_refunds(&mut self) -> Result<i64, Error> {
        const WAITING: &str = "SELECT count(*) FROM refunds WHERE NOT is_reported";
        let (count,): (i64,) = query!(self, fetch_one, WAITING);
        Ok(count)
    }

    /// Removes everything personal of a customer from the shop's own rows. What is left says that an
    /// order was paid, so that a repeated webhook reports nothing.
    pub(crate) async fn erase_rows(&mut self, customer: &str) -> Result<(), Error> {
        const ERASE: [&str; 2] = [
            "UPDATE orders SET credit = NULL, coupon = NULL, is_erased = TRUE WHERE customer = $1",
            "UPDATE customers SET email = NULL, name = NULL, credit = NULL, is_erased = TRUE
             WHERE customer = $1",
        ];
        for statement in ERASE {
            execute!(self, statement, customer);
        }
        Ok(())
    }
}
