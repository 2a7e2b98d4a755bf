import pixel from "react-twitter-pixel";
import { done } from "../../bundled/vendors/kit";

pixel.init("optgate", {});
pixel.pageView();
pixel.track("Purchase", { value: 1 });
done();
