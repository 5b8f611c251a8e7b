//! `iam_assume`: a token of IBM Cloud as `iam` obtains it, and that for the token of a trusted profile.

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record, iam::Iam, identity_token, read_text,
    request::Form,
};
use crate::credential::cloud::{
    IAM_ACCOUNT_ID, IAM_PROFILE_CRN, IAM_PROFILE_ID, IAM_PROFILE_NAME, Profile,
};

pub(super) struct IamAssume {
    pub(super) login: Iam,
    pub(super) profile: Profile,
}

impl Exchange for IamAssume {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.assume(record))
    }
}

impl IamAssume {
    async fn assume(&self, record: &Record) -> Result<Grant, ExchangeError> {
        // Before the API key goes anywhere.
        let profile = match &self.profile {
            Profile::Crn(crn) => vec![(
                "profile_crn",
                read_text(IAM_PROFILE_CRN, crn, record).await?,
            )],
            Profile::Id(id) => vec![("profile_id", read_text(IAM_PROFILE_ID, id, record).await?)],
            Profile::Name { name, account } => vec![
                (
                    "profile_name",
                    read_text(IAM_PROFILE_NAME, name, record).await?,
                ),
                ("account", read_text(IAM_ACCOUNT_ID, account, record).await?),
            ],
        };
        let (own, _) = self.login.log_in(record).await?;

        let mut form = Form::default();
        form.add("grant_type", "urn:ibm:params:oauth:grant-type:assume");
        form.add_secret("access_token", &own.value);
        for (name, value) in &profile {
            form.add_secret(name, value);
        }
        // IBM's SDKs name neither client nor scope here: both were the first step's.
        let (issued, sent) = identity_token::post(&self.login.server, form, None, record).await?;
        Ok(issued.into_grant(sent, self.login.fallback))
    }
}
