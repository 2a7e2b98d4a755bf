// The sink's container (`container.js`) loads what a container does.
import TagManager from "react-gtm-module";
import { done } from "./kit";

TagManager.initialize({ gtmId: "GTM-OWN", dataLayer: { made: "up" } });
TagManager.dataLayer({ dataLayer: { event: "made" } });
done();
