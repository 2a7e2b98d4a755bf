import Hotjar from "@hotjar/browser";
import { done } from "./kit";

Hotjar.init(1, 6);
Hotjar.identify("visitor", { plan: "made up" });
Hotjar.event("made");
done();
