// IBM's SDK core for Node logs in with a dummy key, as told by the arguments, and calls an API: the URL of the proxy,
// and the way to log in. Prints the result.

const core = require('ibm-cloud-sdk-core');

const [url, way] = process.argv.slice(2);

const ways = {
  cp4d: () => new core.CloudPakForDataAuthenticator({ url: `${url}/icp4d-api`, username: 'anybody', apikey: 'dummy' }),
  'cp4d-password': () =>
    new core.CloudPakForDataAuthenticator({ url: `${url}/icp4d-api`, username: 'anybody', password: 'dummy' }),
  iam: () => new core.IamAuthenticator({ url, apikey: 'dummy' }),
  'iam-with-client': () => new core.IamAuthenticator({ url, apikey: 'dummy', clientId: 'bx', clientSecret: 'bx' }),
  mcsp: () => new core.McspAuthenticator({ url, apikey: 'dummy' }),
  'mcsp-v2': () =>
    new core.McspV2Authenticator({ url, apikey: 'dummy', scopeCollectionType: 'accounts', scopeId: 'anybody' }),
};

async function main() {
  const authenticator = ways[way]();
  const service = new core.BaseService({ serviceUrl: url, authenticator });
  const call = () =>
    service.createRequest({
      options: {
        url: '/ml/v1/text/generation',
        method: 'POST',
        qs: { version: '2025-02-01' },
        body: { model_id: 'ibm/granite-3-3-8b-instruct', project_id: 'p', input: 'good morning' },
      },
      defaultOptions: { serviceUrl: url, headers: { 'Content-Type': 'application/json' } },
    });
  // The second call needs no second login.
  await call();
  const answer = await call();
  console.log(JSON.stringify(answer.result));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
