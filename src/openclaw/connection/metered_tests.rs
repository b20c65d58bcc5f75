use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\n\r\n";

/// The header of a frame with this first byte and this length of the payload.
fn header(first: u8, size: u64) -> Vec<u8> {
    let mut header = vec![first];
    match (u8::try_from(size), u16::try_from(size)) {
        (Ok(size), _) if size < 126 => header.push(size),
        (_, Ok(size)) => {
            header.push(126);
            header.extend(size.to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend(size.to_be_bytes());
        }
    }
    header
}

fn frame(first: u8, size: usize) -> Vec<u8> {
    let mut frame = header(first, size as u64);
    frame.extend(vec![b'x'; size]);
    frame
}

/// First bytes of frames: a whole text message; the first, a middle and the last fragment of one; a ping.
const WHOLE: u8 = 0x81;
const FIRST: u8 = 0x01;
const MIDDLE: u8 = 0x00;
const LAST: u8 = 0x80;
const PING: u8 = 0x89;

fn budget(bytes: usize) -> Arc<MessageBudget> {
    MessageBudget::new(bytes)
}

/// A stream after the upgrade, with these bytes in its socket.
fn sent(bytes: &[u8], budget: &Arc<MessageBudget>) -> (Metered<DuplexStream>, DuplexStream) {
    let (here, mut there) = duplex(bytes.len().max(1));
    let writing = there.write_all(bytes);
    futures::FutureExt::now_or_never(writing).unwrap().unwrap();
    let mut stream = Metered::new(here, Arc::clone(budget));
    stream.state = ReadState::Header(HeaderBytes::default());
    (stream, there)
}

/// Reads a number of bytes; the bound that was violation otherwise.
async fn read(stream: &mut Metered<DuplexStream>, size: usize) -> Result<Vec<u8>, Violation> {
    let mut bytes = vec![0; size];
    match stream.read_exact(&mut bytes).await {
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.get_ref().unwrap().downcast_ref::<Violation>().unwrap().clone()),
    }
}

#[tokio::test]
async fn frames_within_the_bounds_are_forwarded_unchanged_and_one_per_read() {
    let frames = [frame(WHOLE, 0), frame(WHOLE, 125), frame(FIRST, 126), frame(PING, 3), frame(LAST, 65_500)];
    let all = [UPGRADE, &frames.concat()].concat();
    let budget = budget(100_000);
    let (mut stream, there) = sent(&all, &budget);
    stream.state = ReadState::BeforeUpgrade;
    stream.set_stage(Stage::Open);
    drop(there);
    assert_eq!(read(&mut stream, UPGRADE.len()).await.unwrap(), UPGRADE);
    for frame in &frames {
        let mut seen = Vec::new();
        while seen.len() < frame.len() {
            stream.read_buf(&mut seen).await.unwrap();
        }
        assert_eq!(&seen, frame, "one frame per read");
    }
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    assert_eq!(stream.take_charge().map(|charge| charge.num_permits()), Some(65_626));
}

#[tokio::test]
async fn the_header_alone_refuses_a_message_that_is_too_long() {
    let budget = budget(limits::MESSAGE_BUDGET);
    for (stage, longest) in [(Stage::Challenge, 64 << 10), (Stage::Connect, 4 << 20), (Stage::Open, 16 << 20)] {
        let (mut stream, _there) = sent(&header(WHOLE, longest), &budget);
        stream.set_stage(stage);
        assert!(read(&mut stream, 2).await.is_ok(), "{stage}");
        let (mut stream, _there) = sent(&header(WHOLE, longest + 1), &budget);
        stream.set_stage(stage);
        let violation = read(&mut stream, 2).await.unwrap_err();
        assert_eq!(violation, Violation::Length { size: longest + 1, stage });
        assert!(violation.to_string().ends_with(&format!("at most {longest} bytes")), "{violation}");
    }
    let (mut stream, _there) = sent(&header(WHOLE, u64::MAX), &budget);
    assert!(matches!(read(&mut stream, 2).await, Err(Violation::Length { size: u64::MAX, .. })));
    let (mut stream, _there) = sent(&header(PING, 126), &budget);
    assert_eq!(read(&mut stream, 2).await, Err(Violation::Control(126)));
}

#[tokio::test]
async fn the_length_of_a_message_is_the_sum_of_its_fragments() {
    let parts = [frame(FIRST, 40_000), frame(PING, 5), frame(MIDDLE, 20_000), frame(MIDDLE, 6_000)];
    let (mut stream, _there) = sent(&parts.concat(), &budget(limits::MESSAGE_BUDGET));
    let good = parts[..3].concat();
    assert_eq!(read(&mut stream, good.len()).await.unwrap(), good);
    assert_eq!(read(&mut stream, 1).await, Err(Violation::Length { size: 66_000, stage: Stage::Challenge }));
}

/// The same after the gateway has accepted the client.
fn open(bytes: &[u8], budget: &Arc<MessageBudget>) -> (Metered<DuplexStream>, DuplexStream) {
    let (mut stream, there) = sent(bytes, budget);
    stream.set_stage(Stage::Open);
    (stream, there)
}

#[tokio::test(start_paused = true)]
async fn a_long_message_waits_for_the_budget_until_its_deadline() {
    let budget = budget(150_000);
    let (mut one, _one) = open(&frame(WHOLE, 90_000), &budget);
    read(&mut one, 90_010).await.unwrap();
    let unread = one.take_charge().unwrap();
    let (mut other, _other) = open(&frame(WHOLE, 80_000), &budget);
    assert_eq!(read(&mut other, 80_010).await, Err(Violation::Budget { size: 80_000 }));
    drop(other);
    let (mut other, _other) = open(&frame(WHOLE, 80_000), &budget);
    let (read, ()) = futures::join!(read(&mut other, 80_010), async { drop(unread) });
    assert_eq!(read.unwrap().len(), 80_010);
    drop((one, other));
    assert_eq!(budget.bytes.available_permits(), 150_000, "all shares are returned");
}

#[tokio::test(start_paused = true)]
async fn short_messages_pass_while_stalled_long_messages_hold_the_whole_budget() {
    let budget = budget(limits::MESSAGE_BUDGET);
    let mut hostile: Vec<_> = (0..4).map(|_| open(&header(WHOLE, limits::MESSAGE as u64), &budget)).collect();
    for (stream, _) in &mut hostile {
        read(stream, 10).await.unwrap();
    }
    assert_eq!(budget.bytes.available_permits(), 0);
    let parts = [frame(FIRST, 60_000), frame(LAST, 5_536)];
    for short in [frame(WHOLE, 100), frame(WHOLE, 64 << 10), parts.concat()] {
        let (mut stream, _there) = open(&short, &budget);
        assert_eq!(read(&mut stream, short.len()).await.unwrap(), short);
        assert!(stream.take_charge().is_none());
    }
    let parts = [frame(FIRST, 60_000), frame(LAST, 5_537)];
    let (mut stream, _there) = open(&parts.concat(), &budget);
    assert_eq!(
        read(&mut stream, 65_000).await,
        Err(Violation::Budget { size: 65_537 }),
        "a long message in short fragments"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stalled_message_gives_way_to_the_waiting_message_of_another_gateway() {
    let budget = budget(limits::MESSAGE_BUDGET);
    let mut hostile: Vec<_> = (0..4).map(|_| open(&header(WHOLE, limits::MESSAGE as u64), &budget)).collect();
    for (stream, _) in &mut hostile {
        read(stream, 10).await.unwrap();
    }
    let (mut honest, _there) = open(&frame(WHOLE, 80_000), &budget);
    let started = Instant::now();
    let ends = futures::future::join_all(hostile.into_iter().map(|(mut stream, there)| async move {
        let end = read(&mut stream, 1).await;
        drop((stream, there));
        end
    }));
    let (honest, ends) = futures::join!(read(&mut honest, 80_010), ends);
    assert_eq!(honest.unwrap().len(), 80_010);
    assert!(started.elapsed() < limits::MESSAGE_TIMEOUT + limits::CONTENDED_GRACE, "{:?}", started.elapsed());
    assert!(ends.contains(&Err(Violation::Slow { size: limits::MESSAGE as u64 })), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_trickles_without_an_end_is_told_from_a_message_that_stopped() {
    let (mut stream, mut there) = open(&header(WHOLE, 80_000), &budget(limits::MESSAGE_BUDGET));
    let trickle = async {
        while there.write_all(b"x").await.is_ok() {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        end = read(&mut stream, 80_010) => assert_eq!(end, Err(Violation::Time)),
        () = trickle => unreachable!("the stream is open"),
    }
    assert!(Violation::Time.is_misbehaviour() && !Violation::Stalled.is_misbehaviour());
}

#[tokio::test]
async fn a_message_in_too_many_frames_is_refused() {
    let parts: Vec<u8> = (0..=limits::FRAGMENTS).flat_map(|n| frame(if n == 0 { FIRST } else { MIDDLE }, 0)).collect();
    let (mut stream, _there) = open(&parts, &budget(limits::MESSAGE_BUDGET));
    assert!(read(&mut stream, parts.len() - 2).await.is_ok());
    let (mut stream, _there) = open(&parts, &budget(limits::MESSAGE_BUDGET));
    assert_eq!(read(&mut stream, parts.len()).await, Err(Violation::Fragments));
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_message_releases_its_budget_at_the_deadline() {
    let budget = budget(100_000);
    for begun in [[header(WHOLE, 80_000), vec![b'x'; 20]].concat(), frame(FIRST, 80_000), frame(FIRST, 60)] {
        let (mut stream, _there) = open(&begun, &budget);
        assert_eq!(read(&mut stream, 100_000).await, Err(Violation::Stalled));
        drop(stream);
        assert_eq!(budget.bytes.available_permits(), 100_000);
    }
    let (mut stream, _there) = sent(&[], &budget);
    let waiting = tokio::time::timeout(limits::MESSAGE_TIMEOUT * 10, read(&mut stream, 1));
    assert!(waiting.await.is_err(), "silence between messages has no deadline");
}

#[tokio::test]
async fn an_upgrade_answer_with_an_ambiguous_end_is_refused() {
    let with = |from: &str, to: &str| String::from_utf8(UPGRADE.to_vec()).unwrap().replacen(from, to, 1);
    for (answer, flaw) in [
        (with("HTTP", "\r\nHTTP"), Violation::NotHttp),
        (with("HTTP", "\nHTTP"), Violation::NotHttp),
        ("\u{15}\u{3}\u{1}".into(), Violation::NotHttp),
        (with("\r\n\r\n", "\n\n"), Violation::LineEnd),
        (with("\r\n\r\n", "\r\n\n"), Violation::LineEnd),
        (with("\r\n", "\n"), Violation::LineEnd),
        (with("y\r\n", "y\n"), Violation::LineEnd),
    ] {
        let all = [answer.as_bytes(), &header(WHOLE, u64::MAX)].concat();
        let (mut stream, _there) = sent(&all, &budget(limits::MESSAGE_BUDGET));
        stream.state = ReadState::BeforeUpgrade;
        assert_eq!(read(&mut stream, all.len()).await, Err(flaw), "{answer:?}");
    }
}
