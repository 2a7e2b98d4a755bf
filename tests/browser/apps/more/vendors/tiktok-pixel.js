import pixel from "tiktok-pixel";
import { done } from "../../bundled/vendors/kit";

pixel.init("OPTGATE", { email: "visitor@example.test" }, { debug: false });
pixel.pageView();
pixel.track("ViewContent", { value: 1, currency: "USD" });
done();
