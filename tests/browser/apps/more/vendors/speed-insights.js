// Its collector is on the site's own host.
import { injectSpeedInsights } from "@vercel/speed-insights";
import { done } from "../../bundled/vendors/kit";

injectSpeedInsights();
done();
