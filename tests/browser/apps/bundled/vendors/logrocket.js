import LogRocket from "logrocket";
import { done } from "./kit";

LogRocket.init("optgate/made-up");
LogRocket.identify("visitor", { plan: "made up" });
LogRocket.track("made");
LogRocket.log("made");
done();
