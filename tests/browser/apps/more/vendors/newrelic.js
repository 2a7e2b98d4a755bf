import { BrowserAgent } from "@newrelic/browser-agent/loaders/browser-agent";
import { done } from "../../bundled/vendors/kit";

const agent = new BrowserAgent({
  init: { distributed_tracing: { enabled: true }, privacy: { cookies_enabled: true } },
  info: { beacon: "bam.nr-data.net", errorBeacon: "bam.nr-data.net", licenseKey: "optgate", applicationID: "1", sa: 1 },
  loader_config: { accountID: "1", trustKey: "1", agentID: "1", licenseKey: "optgate", applicationID: "1" },
});
agent.addPageAction("made", { n: 1 });
done();
