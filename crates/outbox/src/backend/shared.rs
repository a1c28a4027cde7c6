//! What both databases do in the same words: the operations over statements that each has in a file of
//! the same name.

/// One row of the statements that claim; the types of both databases are read alike.
macro_rules! claimed {
    ($row:expr, $token:expr) => {{
        let own = text($row, "own_ids")?;
        let parent = text($row, "parent_ids")?;
        let grandparent = text($row, "grandparent_ids")?;
        Claimed {
            seq: $row.try_get("seq")?,
            token: $token.clone(),
            report: bytes($row, "report")?.unwrap_or_default(),
            attempts: $row.try_get::<i32, _>("attempts")?.max(0) as u32,
            may_have_arrived: $row.try_get("may_have_arrived")?,
            click_id: text($row, "click_id")?,
            partner_id: text($row, "partner_id")?,
            platform_ids: [own, parent, grandparent].into_iter().flatten().collect(),
            sale_is_unrecorded: $row.try_get("sale_is_unrecorded")?,
        }
    }};
}

/// One row of a list. No text or JSON that is in a row fails the list: what can't be read of it is left
/// out.
macro_rules! entry {
    ($row:expr) => {{
        let is_reduced = $row.try_get::<Option<i64>, _>("reduced_at")?.is_some();
        let (report, unreadable) = if is_reduced {
            (None, None)
        } else {
            match serde_json::from_slice(&bytes($row, "report")?.unwrap_or_default()) {
                Ok(report) => (Some(report), None),
                Err(error) => (None, Some(error.to_string())),
            }
        };
        Entry {
            row: $row.try_get("seq")?,
            id: text($row, "id")?,
            kind: text($row, "kind")?,
            report,
            unreadable,
            credit: json_of(text($row, "credit")?).filter(|credit: &serde_json::Value| {
                credit.is_object() && credit.get("reduced").is_none()
            }),
            state: State::read(&$row.try_get::<String, _>("state")?),
            waits_for: text($row, "blocked_by")?,
            not_before: time($row.try_get("not_before")?),
            attempts: $row.try_get::<i32, _>("attempts")?.max(0) as u32,
            outcome: text($row, "outcome")?,
            platform_ids: json_of(text($row, "platform_ids")?),
            reason: text($row, "reason")?,
            details: text($row, "details")?,
            history: json_of(text($row, "history")?).unwrap_or_default(),
            created_at: time($row.try_get("created_at")?),
            finished_at: $row.try_get::<Option<i64>, _>("finished_at")?.map(time),
        }
    }};
}

/// How both ask the application's own query for a customer's credit.
macro_rules! customer_credit {
    () => {
        async fn customer_credit(
            connection: &mut Self::Connection,
            query: String,
            customer: String,
        ) -> Result<Option<String>, Error> {
            let row = sqlx::query(AssertSqlSafe(query))
                .bind(customer)
                .fetch_optional(connection)
                .await
                .map_err(Error::Database)?;
            let credit = row.map(|row| row.try_get::<Option<String>, _>("credit"));
            Ok(credit.transpose().map_err(Error::Database)?.flatten())
        }
    };
}

/// What both databases do in the same words. The statements that enqueue are public, and given; the others
/// are looked for in the folder of the file that calls this.
macro_rules! shared_operations {
    ($enqueue:expr, $enqueue_all:expr) => {
        fn enqueue<'c, E: Executor<'c, Database = Self> + 'c>(
            executor: E,
            report: String,
        ) -> BoxFuture<'c, Result<Enqueued, Error>> {
            Box::pin(async move {
                let row = sqlx::query::<Self>($enqueue)
                    .bind(report)
                    .fetch_optional(executor)
                    .await?;
                Ok(enqueued(
                    row.map(|row| row.try_get("revision")).transpose()?,
                ))
            })
        }

        fn enqueue_all<'c, E: Executor<'c, Database = Self> + 'c>(
            executor: E,
            reports: String,
        ) -> BoxFuture<'c, Result<Changed, Error>> {
            Box::pin(async move {
                let rows = sqlx::query::<Self>($enqueue_all)
                    .bind(reports)
                    .fetch_all(executor)
                    .await?;
                let changed = rows
                    .iter()
                    .map(|row| Ok((row.try_get("id")?, row.try_get("revision")?)));
                changed.collect()
            })
        }

        async fn mark(
            pool: &Pool<Self>,
            seq: i64,
            token: String,
            lease: i64,
            clock: i64,
        ) -> Result<bool, Error> {
            let marked = sqlx::query::<Self>(include_str!("mark.sql"))
                .bind(seq)
                .bind(token)
                .bind(lease)
                .bind(clock);
            let mut connection = durable(pool).await?;
            Ok(marked.fetch_optional(&mut *connection).await?.is_some())
        }

        async fn save_ids(
            pool: &Pool<Self>,
            seq: i64,
            token: String,
            ids: String,
        ) -> Result<bool, Error> {
            let saved = sqlx::query::<Self>(include_str!("save_ids.sql"))
                .bind(seq)
                .bind(token)
                .bind(ids);
            let saved = saved.fetch_optional(pool).await?;
            Ok(match saved {
                Some(row) => row.try_get("is_held")?,
                None => false,
            })
        }

        async fn renew(
            pool: &Pool<Self>,
            rows: &[Lease],
            lease: i64,
            clock: i64,
        ) -> Result<Vec<i64>, Error> {
            let rows = sqlx::query::<Self>(include_str!("renew.sql"))
                .bind(json!(rows).to_string())
                .bind(lease)
                .bind(clock)
                .fetch_all(pool)
                .await?;
            rows.iter().map(|row| Ok(row.try_get("seq")?)).collect()
        }

        async fn release(pool: &Pool<Self>, rows: &[Lease], clock: i64) -> Result<(), Error> {
            sqlx::query::<Self>(include_str!("release.sql"))
                .bind(json!(rows).to_string())
                .bind(clock)
                .fetch_all(pool)
                .await?;
            Ok(())
        }

        async fn resend(
            pool: &Pool<Self>,
            id: Option<String>,
            seq: Option<i64>,
            clock: i64,
        ) -> Result<u64, Error> {
            let rows = sqlx::query::<Self>(include_str!("resend.sql"))
                .bind(id)
                .bind(seq)
                .bind(clock)
                .fetch_all(pool)
                .await?;
            Ok(rows.len() as u64)
        }

        async fn settle(
            pool: &Pool<Self>,
            id: String,
            outcome: &'static str,
            clock: i64,
        ) -> Result<u64, Error> {
            let rows = sqlx::query::<Self>(include_str!("settle.sql"))
                .bind(id)
                .bind(outcome)
                .bind(clock)
                .fetch_all(pool)
                .await?;
            Ok(rows.len() as u64)
        }

        async fn find(pool: &Pool<Self>, id: String) -> Result<Option<Entry>, Error> {
            let row = sqlx::query::<Self>(include_str!("find.sql"))
                .bind(id)
                .fetch_optional(pool)
                .await?;
            Ok(match row {
                Some(row) => Some(entry!(&row)),
                None => None,
            })
        }

        async fn problems(pool: &Pool<Self>, after: i64, limit: i64) -> Result<Vec<Entry>, Error> {
            let rows = sqlx::query::<Self>(include_str!("problems.sql"))
                .bind(after)
                .bind(limit)
                .fetch_all(pool)
                .await?;
            rows.iter().map(|row| Ok(entry!(row))).collect()
        }

        async fn history(
            pool: &Pool<Self>,
            name: String,
            order_key: String,
            customer_key: String,
        ) -> Result<Vec<Entry>, Error> {
            let rows = sqlx::query::<Self>(include_str!("history.sql"))
                .bind(name)
                .bind(order_key)
                .bind(customer_key)
                .fetch_all(pool)
                .await?;
            rows.iter().map(|row| Ok(entry!(row))).collect()
        }

        fn erase<'c, C: sqlx::Acquire<'c, Database = Self> + Send + 'c>(
            connection: C,
            customer: String,
            clock: i64,
        ) -> BoxFuture<'c, Result<u64, Error>> {
            Box::pin(async move {
                let mut transaction = connection.begin().await?;
                crate::books::erase::<Self>(&mut transaction, &customer, clock).await?;
                sqlx::query::<Self>(include_str!("erase_orders.sql"))
                    .bind(customer.clone())
                    .fetch_all(&mut *transaction)
                    .await?;
                sqlx::query::<Self>(include_str!("erase_blocked.sql"))
                    .bind(customer.clone())
                    .bind(clock)
                    .fetch_all(&mut *transaction)
                    .await?;
                // Not before the payments are locked: what is booked until then has clicks, too.
                sqlx::query::<Self>(include_str!("erase_clicks.sql"))
                    .bind(customer.clone())
                    .bind(clock)
                    .execute(&mut *transaction)
                    .await?;
                let rows = sqlx::query::<Self>(include_str!("erase.sql"))
                    .bind(customer)
                    .bind(clock)
                    .fetch_all(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                Ok(rows.len() as u64)
            })
        }

        async fn clean(pool: &Pool<Self>, what: Clean, clock: i64) -> Result<u64, Error> {
            let query = match what {
                Clean::Content(age) => sqlx::query::<Self>(include_str!("reduce.sql"))
                    .bind(millis(age))
                    .bind(clock),
                Clean::Rows(age) => sqlx::query::<Self>(include_str!("forget.sql"))
                    .bind(millis(age))
                    .bind(clock),
                Clean::Payments(age) => sqlx::query::<Self>(include_str!("forget_payments.sql"))
                    .bind(millis(age))
                    .bind(clock),
                Clean::Clicks => sqlx::query::<Self>(include_str!("expire_clicks.sql")).bind(clock),
                Clean::Unread => sqlx::query::<Self>(include_str!("reread.sql"))
                    .bind(READS)
                    .bind(clock),
            };
            Ok(query.fetch_all(pool).await?.len() as u64)
        }

        fn put_click<'c, E: Executor<'c, Database = Self> + 'c>(
            executor: E,
            reference: String,
            click: Click,
            ttl: i64,
            clock: i64,
        ) -> BoxFuture<'c, Result<(), Error>> {
            Box::pin(async move {
                sqlx::query::<Self>(include_str!("put_click.sql"))
                    .bind(reference)
                    .bind(click.id().as_str())
                    .bind(click.partner_id().map(ClickId::as_str))
                    .bind(ttl)
                    .bind(clock)
                    .execute(executor)
                    .await?;
                Ok(())
            })
        }

        async fn click(
            pool: &Pool<Self>,
            reference: String,
            clock: i64,
        ) -> Result<Option<(String, Option<String>)>, Error> {
            let query = sqlx::query_as::<Self, _>(include_str!("get_click.sql"))
                .bind(reference)
                .bind(clock);
            Ok(query.fetch_optional(pool).await?)
        }

        async fn worker_seen(
            pool: &Pool<Self>,
            worker: String,
            paused: Option<(i64, String)>,
            clock: i64,
        ) -> Result<bool, Error> {
            let (since, reason) = paused.unzip();
            let row = sqlx::query::<Self>(include_str!("worker_seen.sql"))
                .bind(worker)
                .bind(since)
                .bind(reason)
                .bind(clock)
                .fetch_one(pool)
                .await?;
            Ok(row.try_get::<i64, _>("seq")? != 0)
        }

        async fn worker_gone(pool: &Pool<Self>, worker: String) -> Result<(), Error> {
            sqlx::query::<Self>(include_str!("worker_gone.sql"))
                .bind(worker)
                .execute(pool)
                .await?;
            Ok(())
        }

        async fn probe(pool: &Pool<Self>) -> Result<(), Error> {
            sqlx::query::<Self>(include_str!("probe.sql"))
                .execute(pool)
                .await?;
            Ok(())
        }

        async fn pauses(pool: &Pool<Self>, clock: i64) -> Result<Vec<Paused>, Error> {
            let rows = sqlx::query::<Self>(include_str!("pauses.sql"))
                .bind(clock)
                .fetch_all(pool)
                .await?;
            let pauses = rows.iter().map(|row| {
                Ok(Paused {
                    worker: row.try_get("worker")?,
                    since: time(row.try_get("paused_since")?),
                    reason: row
                        .try_get::<Option<String>, _>("pause_reason")?
                        .unwrap_or_default(),
                })
            });
            pauses.collect()
        }

        async fn depth(pool: &Pool<Self>, clock: i64) -> Result<Depth, Error> {
            let row = sqlx::query::<Self>(include_str!("depth.sql"))
                .bind(clock)
                .fetch_one(pool)
                .await?;
            Ok(Depth {
                open: row.try_get("open")?,
                oldest: row.try_get("oldest")?,
                failed: row.try_get("failed")?,
                ambiguous: row.try_get("ambiguous")?,
                unreadable: row.try_get("unreadable")?,
            })
        }
    };
}

/// Fails unless all texts of the schema were run, and perhaps those of a newer version. The statement
/// gives the version if the tables are there.
macro_rules! is_of_this_version {
    ($pool:expr, $version:literal, $schema:expr) => {{
        let row = sqlx::query($version).fetch_optional($pool).await?;
        let version = match row {
            Some(row) => row.try_get::<i32, _>("version")?.max(0) as usize,
            None => 0,
        };
        if version < $schema.len() {
            return Err(Error::NotMigrated);
        }
        Ok(())
    }};
}

/// Runs the texts of the schema that a database lacks, within a transaction that keeps every other
/// process out.
macro_rules! run_schema {
    ($transaction:expr, $schema:expr) => {{
        sqlx::query(sql::SCHEMA_VERSION[0])
            .execute(&mut *$transaction)
            .await?;
        let row = sqlx::query("SELECT version FROM referral_outbox_schema")
            .fetch_optional(&mut *$transaction)
            .await?;
        let version = match row {
            Some(row) => row.try_get::<i32, _>("version")?.max(0) as usize,
            None => 0,
        };
        // A newer process has been here: its tables are this one's and more.
        for text in $schema.iter().copied().skip(version) {
            sqlx::raw_sql(text).execute(&mut *$transaction).await?;
        }
        if version < $schema.len() {
            sqlx::query(sql::SCHEMA_VERSION[1])
                .bind($schema.len() as i32)
                .execute(&mut *$transaction)
                .await?;
        }
    }};
}
