//! What the sources have to give, as `tokenize` counted it, and the shares that the mixture takes of it.
//!
//! It reads the totals that tasks committed, never an index of documents.

use mellama_shards::mixture::{Mixture, MixtureError, SourceShare, SourceSupply, plan_mixture};
use mellama_shards::{RunIndex, RunTotals};
use mellama_storage::TaskCommit;

use super::domain_index;
use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::stage::Stage;
use crate::stages::tokenize;

/// Sources whose counts a refusal gives.
const NAMED_SOURCES: usize = 8;

/// Tokens and documents of every source, and the commits that hold them.
pub(super) struct Counted {
    commits: Vec<TaskCommit>,
    /// By source of the recipe.
    totals: Vec<RunTotals>,
}

impl Counted {
    pub(super) fn read(context: &Context<'_>) -> Result<Counted, Failure> {
        let commits = context.commits(Stage::Tokenize)?;
        let mut totals = vec![RunTotals::default(); context.corpus().source.len()];
        for commit in &commits {
            let of_task = tokenize::facts_of(commit)?.totals;
            let sum = &mut totals[context.plan.ingest[commit.task as usize].source];
            sum.documents += of_task.documents;
            sum.tokens += of_task.tokens;
            sum.heldout_documents += of_task.heldout_documents;
            sum.heldout_tokens += of_task.heldout_tokens;
        }
        Ok(Counted { commits, totals })
    }

    /// All documents, held out or not.
    pub(super) fn documents(&self) -> u64 {
        self.totals.iter().map(|totals| totals.documents).sum()
    }

    /// The mixture of the recipe; without `[corpus.mixture]` every source once.
    ///
    /// # Errors
    /// `Failure::Policy` when the supply cannot fill it.
    pub(super) fn mixture(&self, context: &Context<'_>) -> Result<Mixture, Failure> {
        let corpus = context.corpus();
        let length = corpus.pack.as_ref().map_or(1, |pack| pack.sequence_length);
        let supply = |(source, totals): (&crate::recipe::SourceRecipe, &RunTotals)| SourceSupply {
            source: source.name.clone(),
            domain: domain_index(source.domain),
            documents: totals.documents - totals.heldout_documents,
            tokens: totals.tokens - totals.heldout_tokens,
            max_epochs: source.max_epochs,
        };
        let supplies: Vec<SourceSupply> = corpus.source.iter().zip(&self.totals).map(supply).collect();
        match &corpus.mixture {
            None => Ok(everything(&supplies)),
            Some(recipe) => plan_mixture(&recipe.spec(length), &supplies).map_err(|e| self.refused(context, &e)),
        }
    }

    /// With what was counted, so that the changed recipe can be tried before it is run.
    fn refused(&self, context: &Context<'_>, error: &MixtureError) -> Failure {
        let sources = context.corpus().source.iter().zip(&self.totals);
        let counted: Vec<String> = sources.map(|(source, totals)| format!("{} {}", source.name, totals.tokens)).collect();
        let more = counted.len().saturating_sub(NAMED_SOURCES);
        let more = if more > 0 { format!(" and {more} more, in manifests/tokenize.json") } else { String::new() };
        Failure::Policy(format!(
            "corpus.{}; a changed recipe needs another work folder, so try it with \"mellama plan\" first: \
             as expected_tokens give what was counted, {}{more}",
            chain(error),
            counted[..counted.len().min(NAMED_SOURCES)].join(", "),
        ))
    }

    /// Shares of held-out documents of a domain: each once and whole, with the number of its source.
    pub(super) fn heldout(&self, context: &Context<'_>, domain: usize) -> Vec<(u16, SourceShare)> {
        let sources = (0..).zip(context.corpus().source.iter().zip(&self.totals));
        let of_domain = sources.filter(|(_, (source, _))| domain_index(source.domain) == domain);
        of_domain.map(|(number, (source, totals))| (number, once(&source.name, domain, totals.heldout_tokens))).collect()
    }

    /// Calls `visit` with the index of each object of token runs of one source, and the task that wrote it.
    ///
    /// # Errors
    /// As `tokenize::index_of`, and those of `visit`.
    pub(super) fn for_each_index(
        &self,
        context: &Context<'_>,
        source: u16,
        mut visit: impl FnMut(u32, &RunIndex) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let of_source = |commit: &&TaskCommit| context.plan.ingest[commit.task as usize].source == usize::from(source);
        for commit in self.commits.iter().filter(of_source) {
            context.check_stop()?;
            if let Some(index) = tokenize::index_of(context, commit)? {
                visit(commit.task as u32, &index)?;
            }
        }
        Ok(())
    }

    /// The id of a document by its token object and row.
    ///
    /// # Errors
    /// As `tokenize::index_of`.
    pub(super) fn id(&self, context: &Context<'_>, object: u32, row: u32) -> Result<String, Failure> {
        let index = tokenize::index_of(context, &self.commits[object as usize])?.expect("a placed document lies in an object");
        let mut ids = index.read_ids().map_err(|e| Failure::reading("", &e))?;
        Ok(ids.swap_remove(row as usize))
    }
}

/// Without `[corpus.mixture]`: every source once.
fn everything(supplies: &[SourceSupply]) -> Mixture {
    let sources: Vec<SourceShare> = supplies.iter().map(|supply| once(&supply.source, supply.domain, supply.tokens)).collect();
    let mut quotas = [0; 3];
    for share in &sources {
        quotas[share.domain] += share.quota;
    }
    Mixture { total: quotas.iter().sum(), quotas, sources }
}

fn once(source: &str, domain: usize, tokens: u64) -> SourceShare {
    let full_epochs = u64::from(tokens > 0);
    SourceShare { source: source.to_owned(), domain, supply: tokens, quota: tokens, full_epochs, remainder: 0 }
}
