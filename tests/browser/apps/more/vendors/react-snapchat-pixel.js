import pixel from "react-snapchat-pixel";
import { done } from "../../bundled/vendors/kit";

pixel.init("1", { user_email: "visitor@example.test" }, { debug: false });
pixel.pageView();
pixel.track("PURCHASE", { price: 1, currency: "USD" });
done();
