use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\n\r\n";

/// The head of a frame with this first byte.
fn head(first: u8, size: u64) -> Vec<u8> {
    let mut head = vec![first];
    match (u8::try_from(size), u16::try_from(size)) {
        (Ok(size), _) if size < 126 => head.push(size),
        (_, Ok(size)) => {
            head.push(126);
            head.extend(size.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend(size.to_be_bytes());
        }
    }
    head
}

fn frame(first: u8, size: usize) -> Vec<u8> {
    let mut frame = head(first, size as u64);
    frame.extend(vec![b'x'; size]);
    frame
}

/// Text, whole; text, to be continued; a part, to be continued; the last part; a ping.
const WHOLE: u8 = 0x81;
const FIRST: u8 = 0x01;
const PART: u8 = 0x00;
const LAST: u8 = 0x80;
const PING: u8 = 0x89;

fn budget(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes))
}

/// A stream of which the other side has sent this already.
fn sent(bytes: &[u8], budget: &Arc<Semaphore>) -> (Metered<DuplexStream>, DuplexStream) {
    let (here, mut there) = duplex(bytes.len().max(1));
    let writing = there.write_all(bytes);
    futures::FutureExt::now_or_never(writing).unwrap().unwrap();
    let mut stream = Metered::new(here, Arc::clone(budget));
    stream.at = At::Head(Head::default());
    (stream, there)
}

/// Reads a number of bytes; the bound that was exceeded otherwise.
async fn read(stream: &mut Metered<DuplexStream>, size: usize) -> Result<Vec<u8>, Exceeded> {
    let mut bytes = vec![0; size];
    match stream.read_exact(&mut bytes).await {
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.get_ref().unwrap().downcast_ref::<Exceeded>().unwrap().clone()),
    }
}

#[tokio::test]
async fn what_keeps_to_the_bounds_is_passed_on_as_it_is_and_one_frame_at_a_time() {
    let frames = [frame(WHOLE, 0), frame(WHOLE, 125), frame(FIRST, 126), frame(PING, 3), frame(LAST, 65_500)];
    let all = [UPGRADE, &frames.concat()].concat();
    let budget = budget(100_000);
    let (mut stream, there) = sent(&all, &budget);
    stream.at = At::Start;
    stream.set_stage(Stage::Open);
    drop(there);
    assert_eq!(read(&mut stream, UPGRADE.len()).await.unwrap(), UPGRADE);
    for frame in &frames {
        let mut seen = Vec::new();
        while seen.len() < frame.len() {
            stream.read_buf(&mut seen).await.unwrap();
        }
        assert_eq!(&seen, frame, "and nothing of the next one");
    }
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    assert_eq!(stream.take_charge().map(|charge| charge.num_permits()), Some(65_626));
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_by_its_head() {
    let budget = budget(limits::BUDGET);
    for (stage, longest) in [(Stage::Challenge, 64 << 10), (Stage::Connect, 4 << 20), (Stage::Open, 16 << 20)] {
        let (mut stream, _there) = sent(&head(WHOLE, longest), &budget);
        stream.set_stage(stage);
        assert!(read(&mut stream, 2).await.is_ok(), "{stage}");
        let (mut stream, _there) = sent(&head(WHOLE, longest + 1), &budget);
        stream.set_stage(stage);
        let exceeded = read(&mut stream, 2).await.unwrap_err();
        assert_eq!(exceeded, Exceeded::Length { size: longest + 1, stage });
        assert!(exceeded.to_string().ends_with(&format!("at most {longest} bytes")), "{exceeded}");
    }
    let (mut stream, _there) = sent(&head(WHOLE, u64::MAX), &budget);
    assert!(matches!(read(&mut stream, 2).await, Err(Exceeded::Length { size: u64::MAX, .. })));
    let (mut stream, _there) = sent(&head(PING, 126), &budget);
    assert_eq!(read(&mut stream, 2).await, Err(Exceeded::Control(126)));
}

#[tokio::test]
async fn a_message_in_parts_is_as_long_as_all_of_them() {
    let parts = [frame(FIRST, 40_000), frame(PING, 5), frame(PART, 20_000), frame(PART, 6_000)];
    let (mut stream, _there) = sent(&parts.concat(), &budget(limits::BUDGET));
    let good = parts[..3].concat();
    assert_eq!(read(&mut stream, good.len()).await.unwrap(), good);
    assert_eq!(read(&mut stream, 1).await, Err(Exceeded::Length { size: 66_000, stage: Stage::Challenge }));
}

/// The same after the login.
fn open(bytes: &[u8], budget: &Arc<Semaphore>) -> (Metered<DuplexStream>, DuplexStream) {
    let (mut stream, there) = sent(bytes, budget);
    stream.set_stage(Stage::Open);
    (stream, there)
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_until_others_were_read_and_not_for_ever() {
    let budget = budget(150_000);
    let (mut one, _one) = open(&frame(WHOLE, 90_000), &budget);
    read(&mut one, 90_010).await.unwrap();
    let unread = one.take_charge().unwrap();
    let (mut other, _other) = open(&frame(WHOLE, 80_000), &budget);
    assert_eq!(read(&mut other, 80_010).await, Err(Exceeded::Budget { size: 80_000 }));
    drop(other);
    let (mut other, _other) = open(&frame(WHOLE, 80_000), &budget);
    let (read, ()) = futures::join!(read(&mut other, 80_010), async { drop(unread) });
    assert_eq!(read.unwrap().len(), 80_010);
    drop((one, other));
    assert_eq!(budget.available_permits(), 150_000, "all is given back");
}

#[tokio::test(start_paused = true)]
async fn short_messages_pass_while_long_ones_that_do_not_go_on_hold_the_whole_budget() {
    let budget = budget(limits::BUDGET);
    let mut hostile: Vec<_> = (0..4).map(|_| open(&head(WHOLE, limits::MESSAGE as u64), &budget)).collect();
    for (stream, _) in &mut hostile {
        read(stream, 10).await.unwrap();
    }
    assert_eq!(budget.available_permits(), 0);
    let parts = [frame(FIRST, 60_000), frame(LAST, 5_536)];
    for short in [frame(WHOLE, 100), frame(WHOLE, 64 << 10), parts.concat()] {
        let (mut stream, _there) = open(&short, &budget);
        assert_eq!(read(&mut stream, short.len()).await.unwrap(), short);
        assert!(stream.take_charge().is_none());
    }
    let parts = [frame(FIRST, 60_000), frame(LAST, 5_537)];
    let (mut stream, _there) = open(&parts.concat(), &budget);
    assert_eq!(read(&mut stream, 65_000).await, Err(Exceeded::Budget { size: 65_537 }), "a long one in short parts");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_come_to_its_end_holds_its_part_of_the_budget_for_a_time_only() {
    let budget = budget(100_000);
    for begun in [[head(WHOLE, 80_000), vec![b'x'; 20]].concat(), frame(FIRST, 80_000), frame(FIRST, 60)] {
        let (mut stream, _there) = open(&begun, &budget);
        assert_eq!(read(&mut stream, 100_000).await, Err(Exceeded::Time));
        drop(stream);
        assert_eq!(budget.available_permits(), 100_000);
    }
    let (mut stream, _there) = sent(&[], &budget);
    let waiting = tokio::time::timeout(limits::MESSAGE_TIME * 10, read(&mut stream, 1));
    assert!(waiting.await.is_err(), "silence is none of its business");
}

#[tokio::test]
async fn an_answer_to_the_upgrade_whose_end_the_websocket_could_find_elsewhere_is_refused() {
    let with = |from: &str, to: &str| String::from_utf8(UPGRADE.to_vec()).unwrap().replacen(from, to, 1);
    for (answer, flaw) in [
        (with("HTTP", "\r\nHTTP"), Exceeded::NotHttp),
        (with("HTTP", "\nHTTP"), Exceeded::NotHttp),
        ("\u{15}\u{3}\u{1}".into(), Exceeded::NotHttp),
        (with("\r\n\r\n", "\n\n"), Exceeded::LineEnd),
        (with("\r\n\r\n", "\r\n\n"), Exceeded::LineEnd),
        (with("\r\n", "\n"), Exceeded::LineEnd),
        (with("y\r\n", "y\n"), Exceeded::LineEnd),
    ] {
        let all = [answer.as_bytes(), &head(WHOLE, u64::MAX)].concat();
        let (mut stream, _there) = sent(&all, &budget(limits::BUDGET));
        stream.at = At::Start;
        assert_eq!(read(&mut stream, all.len()).await, Err(flaw), "{answer:?}");
    }
}
