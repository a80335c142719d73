//! The API's two doors: what somebody does at one is not felt at the other.

mod support;

use std::net::SocketAddr;
use support::Appliance;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

/// From another address of loopback.
async fn dial(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether it was closed without a word; it has been accepted then. One that is served waits for our request.
async fn is_turned_away(from: [u8; 4], to: SocketAddr) -> bool {
    let mut stream = dial(from, to).await;
    use tokio::io::AsyncWriteExt;
    let _ = stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n")
        .await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anonymous_connections_over_tcp_keep_neither_the_operator_nor_another_address_out() {
    let gate = Appliance::start().await;
    let mut kept = Vec::new();
    // One address: its share, and no more.
    assert!(!is_turned_away([127, 0, 1, 1], gate.ready.api).await);
    for _ in 0..300 {
        kept.push(dial([127, 0, 1, 1], gate.ready.api).await);
    }
    assert!(is_turned_away([127, 0, 1, 1], gate.ready.api).await);
    assert!(!is_turned_away([127, 0, 1, 2], gate.ready.api).await);
    // Many addresses, until the door is full for everybody.
    let mut address = 2;
    while !is_turned_away([127, 0, 2, address], gate.ready.api).await {
        for _ in 0..250 {
            kept.push(dial([127, 0, 1, address], gate.ready.api).await);
        }
        address += 1;
        assert!(address < 40, "{} connections and no end", kept.len());
    }
    let (status, _) = gate.admin("GET", "/api/v1/sessions", None).await;
    assert_eq!(status, 200, "the operator's own socket is open");
}
