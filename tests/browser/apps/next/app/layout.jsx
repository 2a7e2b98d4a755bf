import Link from "next/link";
import Script from "next/script";
import { GoogleAnalytics, GoogleTagManager } from "@next/third-parties/google";

export const metadata = { title: "Next" };

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        <Script src="https://static.criteo.net/js/ld/ld.js" strategy="beforeInteractive" />
        <nav>
          <Link href="/">First</Link> <Link href="/second">Second</Link>
        </nav>
        {children}
        <footer>
          <p>Imprint</p>
        </footer>
        <Script src="https://connect.facebook.net/en_US/fbevents.js" strategy="afterInteractive" />
        <Script src="https://analytics.tiktok.com/i18n/pixel/events.js" strategy="lazyOnload" />
        <Script id="inline" strategy="afterInteractive">
          {`new Image().src = "https://www.facebook.com/tr?id=1&ev=PageView"`}
        </Script>
      </body>
      <GoogleAnalytics gaId="G-OPTGATE" />
      <GoogleTagManager gtmId="GTM-OWN" />
    </html>
  );
}
