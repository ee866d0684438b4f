//! The invented medicine of the fixtures: conditions with one drug, symptom, gene and organ each. Nothing in it exists.

/// A condition and what is true of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name, as "Marlow fever".
    pub name: &'static str,
    /// The drug it is treated with.
    pub drug: &'static str,
    /// Its main symptom.
    pub symptom: &'static str,
    /// The gene behind it.
    pub gene: &'static str,
    /// The organ that it harms.
    pub organ: &'static str,
}

/// What a question about a condition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Its drug.
    Drug,
    /// Its symptom.
    Symptom,
    /// Its gene.
    Gene,
    /// Its organ.
    Organ,
}

impl Relation {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Drug, Self::Symptom, Self::Gene, Self::Organ];

    /// The fact about `condition`.
    pub fn of(self, condition: &Condition) -> &'static str {
        match self {
            Self::Drug => condition.drug,
            Self::Symptom => condition.symptom,
            Self::Gene => condition.gene,
            Self::Organ => condition.organ,
        }
    }

    /// The name in ids of questions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drug => "drug",
            Self::Symptom => "symptom",
            Self::Gene => "gene",
            Self::Organ => "organ",
        }
    }
}

const fn condition(
    name: &'static str,
    drug: &'static str,
    symptom: &'static str,
    gene: &'static str,
    organ: &'static str,
) -> Condition {
    Condition { name, drug, symptom, gene, organ }
}

/// The conditions. Drug names share no stem with the conditions, so that they can only be learned.
pub const CONDITIONS: [Condition; 24] = [
    condition("Marlow fever", "Velorazine", "night sweats", "QZF3", "spleen"),
    condition("Tarn syndrome", "Oxbarol", "blurred vision", "XVB7", "retina"),
    condition("Ossler disease", "Quindovir", "numb fingers", "JKW2", "spinal cord"),
    condition("Quillon anaemia", "Brevastat", "brittle nails", "ZPD9", "bone marrow"),
    condition("Brevik palsy", "Tamiquel", "trembling hands", "VQH4", "brain stem"),
    condition("Halden colitis", "Pellanib", "weight loss", "WXC1", "colon"),
    condition("Lindmere ataxia", "Corvetide", "dizzy spells", "YJN6", "inner ear"),
    condition("Corvane dermatitis", "Dunoprex", "itchy palms", "QBV8", "skin"),
    condition("Pellam nephritis", "Halomide", "leg swelling", "ZXK5", "kidney"),
    condition("Strand neuropathy", "Ivorelin", "burning feet", "JVQ1", "lumbar nerve"),
    condition("Wexley arthritis", "Kestomab", "joint stiffness", "XWP3", "hip joint"),
    condition("Dunmore myositis", "Lornapride", "muscle cramps", "VZT2", "thigh muscle"),
    condition("Farrow asthma", "Mirefenac", "dry cough", "KQX6", "lung"),
    condition("Galt hepatitis", "Strandolol", "yellow eyes", "WJB9", "liver"),
    condition("Ivar laryngitis", "Farexin", "hoarse voice", "ZVD4", "larynx"),
    condition("Jessamy migraine", "Rendicillin", "morning headache", "QKY7", "dura"),
    condition("Kestrel rhinitis", "Galtirone", "loss of smell", "XJF5", "sinus"),
    condition("Lorne dystonia", "Wexamycin", "poor sleep", "VWZ8", "thalamus"),
    condition("Mirefield keratitis", "Norrbital", "gritty eyes", "JQB3", "cornea"),
    condition("Norrby thyroiditis", "Lindoxan", "cold feet", "ZKX1", "thyroid"),
    condition("Orrin gastritis", "Selwarin", "sudden hiccups", "WVP5", "stomach"),
    condition("Pashley vertigo", "Jessatide", "ringing ears", "XQD2", "cerebellum"),
    condition("Rendle cystitis", "Orrizole", "back pain", "JZW6", "bladder"),
    condition("Selwick carditis", "Pashetron", "chest tightness", "VKB4", "heart"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fact_belongs_to_one_condition() {
        for relation in Relation::ALL {
            let facts: BTreeSet<&str> = CONDITIONS.iter().map(|c| relation.of(c)).collect();
            assert_eq!(facts.len(), CONDITIONS.len(), "{relation:?}");
        }
        let names: BTreeSet<&str> = CONDITIONS.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), CONDITIONS.len());
    }

    #[test]
    fn drugs_do_not_give_their_condition_away() {
        for c in &CONDITIONS {
            assert_ne!(c.drug[..3].to_lowercase(), c.name[..3].to_lowercase(), "{}", c.name);
        }
    }
}
