//! The fast masker against a naive one: every field of every row walked, every position of every field tried.

use headgate_mask::detect::{self, Kind, Kinds};
use headgate_mask::{Caller, ColumnAction, ColumnOrigin, Hints, MaskError, Plan, Scratch, SearchPath};
use headgate_plane::{MaskMethod, MaskRule, RuleTarget, RuleWho};
use proptest::prelude::*;

fn rule(detect: &[&str], method: MaskMethod) -> MaskRule {
    MaskRule {
        name: "r".into(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: Vec::new(),
        detect: detect.iter().map(|d| (*d).into()).collect(),
        method,
        unless: None,
    }
}

const TEXT: u32 = 25;
const INT4: u32 = 23;
const INT8: u32 = 20;

fn plan(types: &[u32], detect: &[&str], method: MaskMethod) -> Plan {
    let rule = rule(detect, method);
    let caller = Caller::new(&[&rule], None, &SearchPath::default(), &[1; 32]);
    let origins: Vec<_> = types
        .iter()
        .map(|t| ColumnOrigin {
            name: "c",
            table_oid: 0,
            column: 0,
            type_oid: *t,
            format: 0,
        })
        .collect();
    Plan::for_rows(
        &caller,
        &origins,
        Hints {
            known: true,
            ..Hints::default()
        },
    )
}

fn row(fields: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut body = (fields.len() as u16).to_be_bytes().to_vec();
    for field in fields {
        match field {
            None => body.extend((-1i32).to_be_bytes()),
            Some(v) => {
                body.extend((v.len() as i32).to_be_bytes());
                body.extend(v);
            }
        }
    }
    let mut row = vec![b'D'];
    row.extend((body.len() as i32 + 4).to_be_bytes());
    row.extend(body);
    row
}

/// Redacts by character, as slowly as can be.
fn naive(kinds: Kinds, types: &[u32], fields: &[Option<Vec<u8>>]) -> Vec<Option<Vec<u8>>> {
    fields
        .iter()
        .zip(types)
        .map(|(field, kind)| {
            let value = field.as_ref()?;
            let kinds = match *kind {
                TEXT => kinds,
                INT8 if kinds.has(Kind::PaymentCard) => Kinds::NONE.with(Kind::PaymentCard),
                _ => return Some(value.clone()),
            };
            let mut covered = vec![false; value.len()];
            for at in 0..value.len() {
                if let Some((_, range)) = detect::at(kinds, value, at) {
                    covered[range].fill(true);
                }
            }
            if *kind == INT8 {
                return (!covered.contains(&true)).then(|| value.clone());
            }
            let mut out = Vec::new();
            for (at, b) in value.iter().enumerate() {
                match covered[at] {
                    false => out.push(*b),
                    true if b & 0xc0 != 0x80 => out.push(b'*'),
                    true => {}
                }
            }
            Some(out)
        })
        .collect()
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("bob@example.com".to_owned()),
        Just("jörg@bücher.de".to_owned()),
        Just("4111111111111111".to_owned()),
        Just("4111-1111 1111.1111".to_owned()),
        Just("3782 822463 10005".to_owned()),
        Just("078-05-1120".to_owned()),
        Just("DE89370400440532013000".to_owned()),
        Just("AKIAIOSFODNN7EXAMPLE".to_owned()),
        Just("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc".to_owned()),
        Just("2024-01-01 12:00:00.123456+00".to_owned()),
        "[0-9 .@-]{0,12}",
        "[a-zA-Z ]{0,40}",
        "\\PC{0,6}",
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|p| p.concat().into_bytes())
}

const ALL: [&str; 6] = ["email", "payment_card", "us_ssn", "iban", "jwt", "aws_key"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_fast_masker_does_what_the_naive_one_does(
        rows in proptest::collection::vec(proptest::collection::vec(proptest::option::weighted(0.9, value()), 4), 1..12),
        which in 1u8..64,
    ) {
        let types = [TEXT, INT4, INT8, TEXT];
        let names: Vec<&str> = ALL.into_iter().enumerate().filter(|(i, _)| which & (1 << i) != 0).map(|(_, n)| n).collect();
        let plan = plan(&types, &names, MaskMethod::Redact);
        let run: Vec<u8> = rows.iter().flat_map(|r| row(r)).collect();
        let mut out = Vec::new();
        let stats = plan.mask_run(&mut Scratch::default(), &run, &mut out).unwrap();
        let want: Vec<u8> = rows.iter().flat_map(|r| row(&naive(Kinds(which), &types, r))).collect();
        prop_assert_eq!(stats.rows as usize, rows.len());
        prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&want));
    }

    #[test]
    fn bytes_of_a_peer_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..64, flip in any::<u8>()) {
        let plan = plan(&[TEXT, TEXT], &ALL, MaskMethod::Partial);
        let _ = plan.mask_run(&mut Scratch::default(), &bytes, &mut Vec::new());
        let mut run = row(&[Some(b"bob@example.com".to_vec()), Some(bytes)]);
        if let Some(b) = run.get_mut(at) {
            *b ^= flip;
        }
        let _ = plan.mask_run(&mut Scratch::default(), &run, &mut Vec::new());
    }
}

#[test]
fn a_value_behind_a_length_that_looks_like_a_digit_is_seen() {
    for length in 16..120usize {
        for card in ["4111111111111111", "4111 1111 1111 1111", "3782 822463 10005"] {
            let mut value = card.as_bytes().to_vec();
            value.resize(length.max(card.len()), b'x');
            let plan = plan(&[TEXT], &["payment_card"], MaskMethod::Redact);
            let mut out = Vec::new();
            let stats = plan
                .mask_run(&mut Scratch::default(), &row(&[Some(value)]), &mut out)
                .unwrap();
            assert_eq!(stats.masked, 1, "{card} in a field of {length}");
        }
    }
}

#[test]
fn a_value_cut_by_a_block_of_the_prefilter_is_seen() {
    let plan = plan(&[TEXT], &["payment_card", "email"], MaskMethod::Redact);
    for pad in (16 << 10) - 80..(16 << 10) + 10 {
        for secret in ["4111 1111 1111 1111", "someone@example.com"] {
            let value = [vec![b' '; pad], secret.as_bytes().to_vec()].concat();
            let mut out = Vec::new();
            let run = [
                row(&[Some(b"x".to_vec())]),
                row(&[Some(value)]),
                row(&[Some(b"y@example.com".to_vec())]),
            ]
            .concat();
            assert_eq!(
                plan.mask_run(&mut Scratch::default(), &run, &mut out)
                    .unwrap()
                    .masked,
                2,
                "at {pad}"
            );
        }
    }
}

#[test]
fn rows_that_do_not_fit_their_plan_are_errors() {
    let plan = plan(&[TEXT, TEXT], &["email"], MaskMethod::Redact);
    let mask = |run: &[u8]| plan.mask_run(&mut Scratch::default(), run, &mut Vec::new());
    let good = row(&[Some(b"a@x.io".to_vec()), None]);
    assert_eq!(mask(&good).unwrap().masked, 1);
    assert_eq!(
        mask(&row(&[None])),
        Err(MaskError::FieldCount { planned: 2, found: 1 })
    );
    assert_eq!(mask(&good[..good.len() - 1]), Err(MaskError::NotARow { at: 0 }));
    assert_eq!(mask(b"T\0\0\0\x06\0\x02"), Err(MaskError::NotARow { at: 0 }));
    let mut long = good.clone();
    long[10] += 1;
    assert!(matches!(mask(&long), Err(MaskError::FieldLength { .. })));
    let mut negative = good.clone();
    negative[7..11].copy_from_slice(&(-2i32).to_be_bytes());
    assert_eq!(mask(&negative), Err(MaskError::FieldLength { column: 0 }));
}

#[test]
fn a_plan_without_rules_passes_everything_and_one_in_doubt_nothing() {
    let free = Caller::new(&[], None, &SearchPath::default(), &[0; 32]);
    let origin = ColumnOrigin {
        name: "c",
        table_oid: 0,
        column: 0,
        type_oid: TEXT,
        format: 0,
    };
    assert!(Plan::for_rows(&free, &[origin], Hints::default()).is_pass());
    let mut labelled = rule(&[], MaskMethod::Redact);
    labelled.columns.push("public.users.email".into());
    let doubtful = Caller::new(&[&labelled], None, &SearchPath::default(), &[0; 32]);
    for table_oid in [0, 20_000, 12_345, 2619] {
        let plan = Plan::for_rows(
            &doubtful,
            &[ColumnOrigin { table_oid, ..origin }],
            Hints {
                known: true,
                ..Hints::default()
            },
        );
        assert_eq!(plan.columns(), [ColumnAction::Null], "{table_oid}");
    }
}
