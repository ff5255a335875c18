//! Asks two servers the same questions, and says where they differ.
use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result, ensure};
use kube_peer::dice::Dice;

use crate::{
    asking::{Asker, limit},
    message::Message,
    name::Name,
    question::Question,
    rules::{Both, Rule},
    zone::Zone,
};

/// Differences that are shown whole; all are counted.
const SHOWN: usize = 20;

/// What came of many questions.
#[derive(Debug, Default)]
pub struct Report {
    /// How many there were.
    pub asked: u64,
    /// What the answers of the first server were.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Differences that an RFC allows.
    pub allowed: BTreeMap<Rule, u64>,
    /// Differences that none allows, and questions without a sound answer.
    pub differences: u64,
    /// The first of them.
    pub shown: Vec<String>,
}

/// Two servers, the first of which is the one that is looked at.
#[derive(Debug)]
pub struct Pair {
    askers: [(&'static str, Asker); 2],
    /// The zones that both have.
    zones: Vec<Name>,
}

impl Pair {
    /// Two servers by name, and the zones that both have.
    pub fn new(first: (&'static str, Asker), second: (&'static str, Asker), zones: Vec<Name>) -> Self {
        Self { askers: [first, second], zones }
    }

    /// Asks so many questions, drawn from a seed.
    pub fn compare(&mut self, seed: u64, zone: &Zone, child: &Zone, questions: u64) -> Report {
        let mut dice = Dice::new(seed);
        let mut report = Report::default();
        for number in 0..questions {
            let question = Question::draw(&mut dice, zone, child);
            report.asked += 1;
            if let Err(error) = self.ask(&question, &mut report) {
                report.differences += 1;
                if report.shown.len() < SHOWN {
                    report.shown.push(format!("seed {seed}, question {number}: {question}\n  {error:#}"));
                }
            }
        }
        report
    }

    /// Asks one question.
    ///
    /// # Errors
    /// The answers differ as no RFC allows, or there is none.
    pub fn ask(&mut self, question: &Question, report: &mut Report) -> Result<()> {
        let answers = self.both(question)?;
        *report.kinds.entry(kind(&answers[0])).or_default() += 1;
        let [first, second] = self.askers.each_ref().map(|(name, _)| *name);
        let shown = |answers: &[Message; 2]| format!("{first}: {}\n  {second}: {}", answers[0], answers[1]);
        let mut rules = Vec::new();
        if answers.iter().any(Message::is_truncated) {
            let whole_question = question.over_tcp();
            let whole = self.both(&whole_question)?;
            self.same(&whole_question, &whole, &mut rules).with_context(|| shown(&whole))?;
            for (answer, whole) in answers.iter().zip(&whole) {
                fits(question, answer, whole, &mut rules).with_context(|| shown(&answers))?;
            }
            if answers[0].is_truncated() != answers[1].is_truncated() && rules.is_empty() {
                rules.push(Rule::Compression);
            }
        } else {
            self.same(question, &answers, &mut rules).with_context(|| shown(&answers))?;
        }
        rules.dedup();
        for rule in rules {
            *report.allowed.entry(rule).or_default() += 1;
        }
        Ok(())
    }

    /// Compares two answers that are whole.
    fn same(&self, question: &Question, answers: &[Message; 2], rules: &mut Vec<Rule>) -> Result<()> {
        let [first, second] = answers;
        let mut differs = Vec::new();
        if first.rcode != second.rcode {
            differs.push("rcode");
        }
        if first.is_authoritative() != second.is_authoritative() {
            differs.push("AA");
        }
        for (name, one, other) in [
            ("answer", &first.answer, &second.answer),
            ("authority", &first.authority, &second.authority),
            ("additional", &first.additional, &second.additional),
        ] {
            if one != other {
                differs.push(name);
            }
        }
        if differs.is_empty() {
            return Ok(());
        }
        let both = Both { question, first, second, differs: &differs, zones: &self.zones };
        let rule = Rule::find(&both).with_context(|| format!("different: {}", differs.join(", ")))?;
        rules.push(rule);
        Ok(())
    }

    fn both(&mut self, question: &Question) -> Result<[Message; 2]> {
        let [first, second] = &mut self.askers;
        let ask = |(name, asker): &mut (&'static str, Asker)| asker.ask(question).with_context(|| name.to_owned());
        Ok([ask(first)?, ask(second)?])
    }
}

/// Compares an answer over UDP with the whole one of the same server: what is there must be all, or there must be too much.
fn fits(question: &Question, answer: &Message, whole: &Message, rules: &mut Vec<Rule>) -> Result<()> {
    ensure!(answer.rcode == whole.rcode, "rcode {} over UDP, {} over TCP", answer.rcode, whole.rcode);
    ensure!(answer.is_authoritative() == whole.is_authoritative(), "AA differs between UDP and TCP");
    if answer.is_truncated() {
        ensure!(whole.length > limit(question), "truncated, but the whole answer has {} octets", whole.length);
        return Ok(());
    }
    ensure!(answer.answer == whole.answer, "the answer is not whole, but not truncated");
    ensure!(answer.authority == whole.authority, "the authority is not whole, but not truncated");
    if answer.additional != whole.additional {
        let is_part = answer.additional.iter().all(|record| whole.additional.contains(record));
        ensure!(is_part && answer.is_referral(), "other additional records over UDP");
        rules.push(Rule::Glue);
    }
    Ok(())
}

/// In a word, so that it shows whether all kinds of answers came.
fn kind(answer: &Message) -> &'static str {
    match answer.rcode {
        _ if answer.is_truncated() => "truncated",
        0 if answer.is_referral() => "referral",
        0 if answer.answer.is_empty() => "no such type",
        0 => "answer",
        3 if answer.answer.is_empty() => "no such name",
        3 => "alias to no such name",
        5 => "refused",
        6 => "name too long",
        _ => "other",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, times)| format!("{times} {kind}")).collect();
        writeln!(f, "{} questions: {}", self.asked, kinds.join(", "))?;
        for (rule, times) in &self.allowed {
            writeln!(f, "{times} differ as {rule}")?;
        }
        writeln!(f, "{} differ otherwise", self.differences)?;
        self.shown.iter().try_for_each(|shown| writeln!(f, "\n{shown}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::{Files, Server, nsd};

    /// What finds no difference between two servers must find one that is there.
    #[test]
    fn what_differs_is_found() {
        let (zone, child) = (Zone::generate(&mut Dice::new(1), 400), Zone::child());
        let zones = vec![zone.apex.clone(), child.apex.clone()];
        let folder = tempfile::tempdir().unwrap();
        let start = |zone: &Zone| nsd(&Files::write(&[zone, &child], folder.path()).unwrap(), &[]).unwrap();
        let asker = |server: &Server| (server.name, Asker::new(server.address).unwrap());
        let honest = start(&zone);
        for (right, wrong) in [
            ("*.wild3.bed.example. 60 IN A", "*.wild3.bed.example. 61 IN A"),
            (" DNAME bed.example.", " DNAME bad.example."),
            ("host1.bed.example. 300 IN A 192.0.2.101", "host1.bed.example. 300 IN A 192.0.2.102"),
            ("link2.chain3", "link2.Chain4"),
        ] {
            assert!(zone.text.contains(right), "{right}");
            let other = start(&Zone { text: zone.text.replace(right, wrong), ..zone.clone() });
            let mut pair = Pair::new(asker(&honest), asker(&other), zones.clone());
            let report = pair.compare(1, &zone, &child, 2000);
            assert!(report.differences > 0, "{wrong}: {report}");
        }
        let twin = start(&zone);
        let report = Pair::new(asker(&honest), asker(&twin), zones).compare(1, &zone, &child, 2000);
        assert!(report.differences == 0 && report.allowed.is_empty(), "{report}");
    }
}
