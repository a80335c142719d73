//! A client of a PostgreSQL of the test's own.

use headgate_fixtures::Postgres;
use tokio_postgres::{Client, Config, NoTls};

pub async fn connect(server: &Postgres) -> Client {
    let mut config = Config::new();
    config
        .host_path(server.sockets())
        .port(server.port)
        .user("postgres")
        .dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.expect("the server answers");
    tokio::spawn(connection);
    client
}
