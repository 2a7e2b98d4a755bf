import mParticle from "@mparticle/web-sdk";
import { callback, done } from "../../bundled/vendors/kit";

const identified = callback((identityCallback) =>
  mParticle.init("optgate", { isDevelopmentMode: true, identifyRequest: {}, identityCallback }),
);
mParticle.logEvent("made", mParticle.EventType.Other, { n: 1 });
mParticle.upload();
done({ identified });
