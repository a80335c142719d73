//! COPY streams, cut at every byte, give what the uncut ones give; and what they give is covered.

use headgate_mask::{Caller, ColumnOrigin, CopyMasker, Hints, MaskError, Plan, SearchPath};
use headgate_plane::{MaskMethod, MaskRule, RuleTarget, RuleWho};
use headgate_sql::{Copy, CopyFormat};

fn plan(types: &[u32], format: u16) -> Plan {
    let rule = MaskRule {
        name: "r".into(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: Vec::new(),
        detect: vec!["email".into(), "payment_card".into()],
        method: MaskMethod::Partial,
        unless: None,
    };
    let origins: Vec<_> = types
        .iter()
        .map(|t| ColumnOrigin {
            name: "c",
            table_oid: 0,
            column: 0,
            type_oid: *t,
            format,
        })
        .collect();
    Plan::for_rows(
        &Caller::new(&[&rule], None, &SearchPath::default(), &[3; 32]),
        &origins,
        Hints {
            known: true,
            ..Hints::default()
        },
    )
}

fn copy(format: CopyFormat) -> Copy {
    let (delimiter, null) = if format == CopyFormat::Csv {
        (b',', b"".to_vec())
    } else {
        (b'\t', b"\\N".to_vec())
    };
    Copy {
        out: true,
        format,
        delimiter,
        quote: b'"',
        escape: b'"',
        null,
        header: false,
        relation: None,
        columns: vec![],
        outputs: vec![],
        encoding: None,
    }
}

fn masked(plan: &Plan, copy: &Copy, pieces: &[&[u8]]) -> Result<Vec<u8>, MaskError> {
    let mut masker = CopyMasker::new(plan.clone(), copy)?;
    let mut out = Vec::new();
    for piece in pieces {
        masker.data(piece, &mut out)?;
    }
    masker.finish(&mut out)?;
    Ok(out)
}

/// Whole, in two pieces cut at every byte, and byte by byte.
fn every_cut(types: &[u32], copy: &Copy, stream: &[u8], want: &[u8]) {
    let plan = plan(types, u16::from(copy.format == CopyFormat::Binary));
    let show = |r: &Result<Vec<u8>, MaskError>| {
        r.as_ref()
            .map(|v| String::from_utf8_lossy(v).into_owned())
            .map_err(ToString::to_string)
    };
    for cut in 0..=stream.len() {
        let (a, b) = stream.split_at(cut);
        let got = masked(&plan, copy, &[a, b]);
        assert_eq!(
            show(&got),
            Ok(String::from_utf8_lossy(want).into_owned()),
            "cut at {cut}"
        );
        assert_eq!(got.as_deref(), Ok(want));
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(masked(&plan, copy, &bytes).as_deref(), Ok(want));
    // A stream that ends inside its last row gives nothing of that row.
    if let Some(short) = stream.get(..stream.len() - 1) {
        assert!(masked(&plan, copy, &[short]).is_err());
    }
}

const TEXTS: [u32; 2] = [25, 25];

#[test]
fn text_is_masked_across_any_cut() {
    every_cut(
        &TEXTS,
        &copy(CopyFormat::Text),
        "bob@example.com\tx\\ty\nplain\t\\N\n\\\\N\tjörg@bücher.de\\nnext: 4111 1111 1111 1111\n\tlast\n"
            .as_bytes(),
        "b**@*******.com\tx\\ty\nplain\t\\N\n\\\\N\tj***@******.de\\nnext: **** **** **** 1111\n\tlast\n"
            .as_bytes(),
    );
}

#[test]
fn a_delimiter_that_is_part_of_a_value_hides_nothing() {
    let mut at = copy(CopyFormat::Text);
    at.delimiter = b'@';
    every_cut(&TEXTS, &at, b"bob\\@example.com@x\n", b"b**\\@*******.com@x\n");
    at.delimiter = b'-';
    every_cut(
        &TEXTS,
        &at,
        b"4111\\-1111\\-1111\\-1111-x\n",
        b"****\\-****\\-****\\-1111-x\n",
    );
}

#[test]
fn a_header_passes_and_is_counted_as_no_row() {
    let mut text = copy(CopyFormat::Text);
    text.header = true;
    every_cut(
        &TEXTS,
        &text,
        b"a@b.com\tb\nbob@example.com\tc\n",
        b"a@b.com\tb\nb**@*******.com\tc\n",
    );
}

#[test]
fn csv_is_masked_across_any_cut() {
    let mut csv = copy(CopyFormat::Csv);
    every_cut(
        &TEXTS,
        &csv,
        b"bob@example.com,\"say \"\"hi\"\" to\nbob@example.com\"\n,\"\"\n\"a,b\",4111111111111111\n",
        b"b**@*******.com,\"say \"\"hi\"\" to\nb**@*******.com\"\n,\"\"\n\"a,b\",************1111\n",
    );
    csv.escape = b'\\';
    csv.quote = b'\'';
    csv.header = true;
    every_cut(
        &TEXTS,
        &csv,
        b"h,'x\ny'\n'it\\'s \\\\','\nbob@example.com'\n",
        b"h,'x\ny'\n'it\\'s \\\\','\nb**@*******.com'\n",
    );
}

fn tuple(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = (fields.len() as i16).to_be_bytes().to_vec();
    for field in fields {
        out.extend(field.map_or(-1, |f| f.len() as i32).to_be_bytes());
        out.extend(field.unwrap_or_default());
    }
    out
}

#[test]
fn binary_is_masked_across_any_cut() {
    let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    let card = 4_111_111_111_111_111i64.to_be_bytes();
    let stream = [
        head.to_vec(),
        tuple(&[Some(b"bob@example.com"), Some(&card)]),
        tuple(&[None, Some(&7i64.to_be_bytes())]),
        vec![255, 255],
    ]
    .concat();
    let want = [
        head.to_vec(),
        tuple(&[Some(b"b**@*******.com"), None]),
        tuple(&[None, Some(&7i64.to_be_bytes())]),
        vec![255, 255],
    ]
    .concat();
    every_cut(&[25, 20], &copy(CopyFormat::Binary), &stream, &want);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let plan2 = plan(&TEXTS, 0);
    let text = copy(CopyFormat::Text);
    assert_eq!(
        masked(&plan2, &text, &[b"bob@example.com\n"]),
        Err(MaskError::FieldCount { planned: 2, found: 1 })
    );
    assert_eq!(
        masked(&plan2, &text, &[b"bob@example.com\ta\tb\n"]),
        Err(MaskError::FieldCount { planned: 2, found: 3 })
    );
    let mut latin = copy(CopyFormat::Csv);
    latin.encoding = Some("LATIN1".into());
    assert!(CopyMasker::new(plan2.clone(), &latin).is_err());
    latin.encoding = Some("utf8".into());
    assert!(CopyMasker::new(plan2, &latin).is_ok());
    let binary = copy(CopyFormat::Binary);
    let plan = plan(&TEXTS, 1);
    for wrong in [
        &b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0"[..],
        b"nonsense of nineteen bytes",
        b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xfe",
    ] {
        assert!(masked(&plan, &binary, &[wrong]).is_err());
    }
}

#[test]
fn a_row_without_end_is_refused() {
    let mut masker = CopyMasker::new(plan(&TEXTS, 0), &copy(CopyFormat::Text)).unwrap();
    let piece = vec![b'x'; 1 << 20];
    let mut out = Vec::new();
    let refused = (0..20).find_map(|_| masker.data(&piece, &mut out).err());
    assert!(matches!(refused, Some(MaskError::RowTooLong { .. })) && out.is_empty());
}
