//! Templates whose result is a given text.

/// A template that renders to `text`. The result of a template is empty or ends in exactly one newline: a text of another form is
/// rendered with one newline at its end.
///
/// Lines with marks of the template language are in a raw part. All other lines stay as they are, so that a person can go on from there.
#[must_use]
pub fn verbatim(text: &str) -> String {
    let mut template = String::new();
    let mut raw = String::new();
    for line in text.split_inclusive('\n') {
        if has_mark(line) && !line.contains("endraw") {
            raw.push_str(line);
            continue;
        }
        close_raw(&mut template, &mut raw);
        if has_mark(line) {
            spell_marks(&mut template, line);
        } else {
            template.push_str(line);
        }
    }
    close_raw(&mut template, &mut raw);
    template
}

/// The marks that begin a tag.
const MARKS: [&str; 3] = ["{{", "{%", "{#"];

fn has_mark(line: &str) -> bool {
    MARKS.iter().any(|mark| line.contains(mark))
}

/// Appends whole lines as one raw part.
fn close_raw(template: &mut String, raw: &mut String) {
    if raw.is_empty() {
        return;
    }
    let (lines, end) = raw.strip_suffix('\n').map_or((raw.as_str(), ""), |lines| (lines, "\n"));
    template.extend(["{% raw %}", lines, "{% endraw %}", end]);
    raw.clear();
}

/// Appends a line with each mark as an expression: the line may end a raw part.
fn spell_marks(template: &mut String, line: &str) {
    let mut rest = line;
    while let Some((at, mark)) = MARKS.iter().filter_map(|mark| Some((rest.find(mark)?, *mark))).min() {
        template.extend([&rest[..at], "{{ \"", mark, "\" }}"]);
        rest = &rest[at + mark.len()..];
    }
    template.push_str(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::agent::Role;
    use crate::templates::{Budget, Template, Variables, render};

    fn rendered(text: &str) -> String {
        let template = verbatim(text);
        render(&Template::given("test", &template), &Variables::new(Role::Worker), &mut Budget::default()).unwrap()
    }

    #[test]
    fn a_text_without_marks_is_its_own_template() {
        let text = "# Soul\n\n{ one } # two % three\r\n";
        assert_eq!(verbatim(text), text);
    }

    #[test]
    fn lines_with_marks_are_in_a_raw_part_and_the_others_stay_as_they_are() {
        let text = "# Notes\nWrite {{ name }}\nand {# this #}.\n\nThe end.\n";
        let template = "# Notes\n{% raw %}Write {{ name }}\nand {# this #}.{% endraw %}\n\nThe end.\n";
        assert_eq!((verbatim(text).as_str(), rendered(text).as_str()), (template, text));
    }

    #[test]
    fn a_text_that_ends_a_raw_part_is_reproduced() {
        for text in [
            "{% raw %}{{ a }}{% endraw %}{{ b }}\n",
            "{%- endraw -%}\n",
            "{{{% endraw\n",
            "{% endraw %}{{ auth_token }}\n{{ auth_token }}\n",
        ] {
            assert_eq!(rendered(text), text, "{}", verbatim(text));
        }
    }

    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[{}%#\"' \\-+]{1,4}",
            Just("\n".to_owned()),
            Just("\r\n".to_owned()),
            Just("{% raw %}".to_owned()),
            Just("{% endraw %}".to_owned()),
            Just("{%-endraw-%}".to_owned()),
            Just("endraw".to_owned()),
            Just("{{ auth_token }}".to_owned()),
            "\\PC{0,6}",
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_rendered_byte_for_byte_with_one_newline_at_its_end(text in texts()) {
            let body = text.trim_end_matches(['\n', '\r']);
            let expected = if body.is_empty() { String::new() } else { format!("{body}\n") };
            prop_assert_eq!(rendered(&text), expected);
        }
    }
}
