// Its collector is on the site's own host.
import { inject, track } from "@vercel/analytics";
import { done } from "./kit";

inject({ mode: "production" });
track("made", { n: 1 });
done();
