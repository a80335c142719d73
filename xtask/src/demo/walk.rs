//! The steps of the demo, and what each must show.

use super::{Demo, Result};
use headgate_e2e::Ran;
use headgate_e2e::run::Running;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// For psql: its password is alice's token.
const ALICE: &str = "PGPASSWORD=$(headgate token show) psql -U alice";
const PATIENCE: Duration = Duration::from_secs(30);

pub fn walk(demo: &Demo, stop: &AtomicBool) -> Result<()> {
    let walk = Walk { demo, stop };
    walk.start()?;
    walk.sign_in()?;
    walk.allowed()?;
    walk.masked()?;
    walk.denied()?;
    walk.held()?;
    walk.audit()
}

struct Walk<'a> {
    demo: &'a Demo,
    stop: &'a AtomicBool,
}

impl Walk<'_> {
    fn start(&self) -> Result<()> {
        let (port, target) = (self.demo.gate.port, self.demo.postgres.port);
        title("A database, and Headgate before it");
        println!(
            "A PostgreSQL with a small shop runs on port {target}. Headgate listens on port {port} and is the only one"
        );
        println!("who knows the database's password. Configuration, rules and users are in .demo.");
        let stored = self.show("headgate secret put shop < shop.password")?;
        must(stored.ok(), "the secret is stored", &stored)
    }

    fn sign_in(&self) -> Result<()> {
        title("Sign in");
        println!("No token, no database: a made-up password is refused, whatever the user's name.");
        let refused = self.show("PGPASSWORD=guess psql -U alice -c 'SELECT 1'")?;
        must(
            !refused.ok() && refused.stderr.contains("does not accept this credential"),
            "the guess is refused",
            &refused,
        )?;
        println!("\nAlice is an analyst. She signs in once, and gets a token that works as a password.");
        let login = self.show("headgate login --user alice --password-stdin < alice.password")?;
        must(
            login.ok() && login.stderr.contains("Signed in as alice"),
            "alice is signed in",
            &login,
        )
    }

    fn allowed(&self) -> Result<()> {
        title("An allowed read");
        println!(
            "A rule lets analysts read the shop. psql is the psql that you have; the connection is TLS throughout."
        );
        let read = self.show(&format!(
            "{ALICE} -c 'SELECT name, price, stock FROM products ORDER BY price DESC LIMIT 4'"
        ))?;
        must(
            read.ok() && read.stdout.contains("(4 rows)"),
            "alice reads products",
            &read,
        )
    }

    fn masked(&self) -> Result<()> {
        title("A masked read");
        println!(
            "E-mail and phone are masked as columns, whatever the query calls them; card and social security numbers"
        );
        println!("are found in free text.");
        let read =
            self.show(&format!("{ALICE} -c 'SELECT name, email AS contact, phone, notes FROM customers WHERE id IN (5, 8) ORDER BY id'"))?;
        must(
            read.ok() && read.stdout.contains("(2 rows)"),
            "alice reads customers",
            &read,
        )?;
        self.must_be_masked(&read)?;
        println!("\nCOPY is no way around it.");
        let copy = self.show(&format!(
            "{ALICE} -c 'COPY customers (id, email, phone, notes) TO STDOUT' | sed -n '5p;8p'"
        ))?;
        must(
            copy.ok() && copy.stdout.lines().count() == 2,
            "alice copies two rows",
            &copy,
        )?;
        self.must_be_masked(&copy)
    }

    /// Nothing of what the two customers have in the clear is in what was read.
    fn must_be_masked(&self, read: &Ran) -> Result<()> {
        let clear = self.demo.postgres.sql(
            "shop",
            "SELECT email, phone, notes FROM customers WHERE id IN (5, 8)",
        )?;
        let notes_digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        for field in clear
            .lines()
            .flat_map(|line| line.split('|'))
            .filter(|field| field.contains(|c: char| c == '@' || c.is_ascii_digit()))
        {
            must(!read.stdout.contains(field), "no value leaves in the clear", read)?;
            let digits = notes_digits(field);
            let leaked = digits.len() >= 9 && notes_digits(&read.stdout).contains(&digits);
            must(!leaked, "no number leaves in the clear", read)?;
        }
        Ok(())
    }

    fn denied(&self) -> Result<()> {
        title("A denied statement");
        println!(
            "Nothing lets alice write, and one rule forbids this to everybody. She gets PostgreSQL's own kind of error."
        );
        let denied = self.show(&format!("{ALICE} -c 'DELETE FROM orders'"))?;
        must(
            !denied.ok() && denied.stderr.contains("add a WHERE clause"),
            "the DELETE is denied",
            &denied,
        )?;
        let left = self.demo.postgres.sql("shop", "SELECT count(*) FROM orders")?;
        must(left.trim() == "800", "all orders are still there", &denied)
    }

    fn held(&self) -> Result<()> {
        title("A held statement");
        println!(
            "Schema changes wait for a DBA. The client needs no support for that: its statement simply takes longer."
        );
        let change = format!("{ALICE} -c 'ALTER TABLE products ADD COLUMN colour text'");
        say(&format!("{change} &"));
        let mut psql = Running::start(&mut self.demo.bash(&change), "")?;
        print_output(&psql.await_text("waiting for approval", PATIENCE)?);
        println!("\nMeanwhile, dana, a DBA, signs in and looks at what waits.");
        let login =
            self.show("headgate login --user dana --password-stdin --print < dana.password > dana.token")?;
        must(login.ok(), "dana is signed in", &login)?;
        let list = self.show("headgate --token-file dana.token questions")?;
        must(
            list.ok() && list.stdout.contains("ADD COLUMN colour"),
            "the question is in the list",
            &list,
        )?;
        let number = list
            .stdout
            .split_whitespace()
            .find(|word| word.starts_with("HG-"))
            .ok_or("the list names no question")?
            .to_owned();
        println!("\nAlice cannot say yes to herself; dana can.");
        let own = self.show(&format!(
            "headgate --token-file home/headgate/token approve {number}"
        ))?;
        must(!own.ok(), "nobody approves their own statement", &own)?;
        let yes = self.show(&format!("headgate --token-file dana.token approve {number}"))?;
        must(
            yes.ok() && yes.stdout.contains("approved"),
            "dana's yes is taken",
            &yes,
        )?;
        println!("\nAnd alice's psql, which waited all the time:");
        let done = psql.wait(PATIENCE)?;
        print_output(&done.stdout);
        must(
            done.ok() && done.stdout.contains("ALTER TABLE"),
            "the statement was done",
            &done,
        )?;
        let column = self.demo.postgres.sql(
            "shop",
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'products'::regclass AND attname = 'colour'",
        )?;
        must(column.trim() == "1", "the column is there", &done)
    }

    fn audit(&self) -> Result<()> {
        title("The recording");
        println!("What alice did, what Headgate made of it, and which rule said so:");
        let query = "headgate audit query --principal alice";
        // The recorder writes in batches, a fraction of a second behind.
        let rows = headgate_e2e::run::until("the recording has it all", PATIENCE, || {
            self.demo
                .shell(&format!("{query} --verdict hold --output json"), "")
                .is_ok_and(|ran| ran.stdout.contains("\"approved\""))
        });
        rows?;
        let listed = self.show(query)?;
        for words in [
            "FROM products",
            "FROM customers",
            "DELETE FROM orders",
            "ADD COLUMN colour",
            "schema changes need a DBA",
        ] {
            must(
                listed.ok() && without_breaks(&listed.stdout).contains(&without_breaks(words)),
                &format!("the list has `{words}`"),
                &listed,
            )?;
        }
        let held = self
            .demo
            .shell(&format!("{query} --verdict hold --output jsonl"), "")?
            .good()?;
        let session = held
            .split("\"session\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .ok_or("no session in the list")?;
        println!("\nThe session of the held statement, as it happened:");
        let replay = self.show(&format!("headgate replay {session}"))?;
        must(
            replay.ok() && replay.stdout.contains("approved") && replay.stdout.contains("dana"),
            "the replay shows the answer",
            &replay,
        )?;
        println!(
            "\nSeals and chains are checked offline, with the public key alone: whoever changes, deletes or reorders shows."
        );
        // A checkpoint is signed every few seconds.
        headgate_e2e::run::until("a checkpoint covers the recording", PATIENCE, || {
            self.demo
                .shell("headgate audit verify", "")
                .is_ok_and(|ran| ran.ok() && !ran.stdout.contains("(0 under"))
        })?;
        let verify = self.show("headgate audit verify")?;
        must(verify.ok(), "the recording is whole", &verify)
    }

    /// Says the command, runs it, and shows what it says.
    fn show(&self, command: &str) -> Result<Ran> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("stopped".to_owned());
        }
        say(command);
        let ran = Running::start(&mut self.demo.bash(command), "")?.wait(PATIENCE)?;
        print_output(&ran.stderr);
        print_output(&ran.stdout);
        Ok(ran)
    }
}

fn without_breaks(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

fn title(text: &str) {
    println!("\n{}", paint("1", &format!("== {text}")));
}

/// With a terminal's colour, where there is a terminal.
pub fn paint(colour: &str, text: &str) -> String {
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn say(command: &str) {
    println!("\n{}", paint("36", &format!("$ {command}")));
}

fn print_output(text: &str) {
    for line in text.trim_end().lines() {
        println!("  {line}");
    }
}

fn must(so: bool, what: &str, ran: &Ran) -> Result<()> {
    if so {
        Ok(())
    } else {
        Err(format!("this is not so: {what}\n{}", ran.all()))
    }
}
