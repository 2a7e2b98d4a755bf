import { Link, Links, Meta, Outlet, Scripts, ScrollRestoration } from "react-router";

export function Layout({ children }) {
  return (
    <html lang="en">
      <head>
        <meta charSet="utf-8" />
        <title>React Router</title>
        <script async src="https://static.criteo.net/js/ld/ld.js" />
        <Meta />
        <Links />
      </head>
      <body>
        <nav>
          <Link to="/">First</Link> <Link to="/second">Second</Link>
        </nav>
        {children}
        <footer>
          <p>Imprint</p>
        </footer>
        <script
          dangerouslySetInnerHTML={{ __html: `new Image().src = "https://www.facebook.com/tr?id=1&ev=PageView"` }}
        />
        <ScrollRestoration />
        <Scripts />
      </body>
    </html>
  );
}

export default function Root() {
  return <Outlet />;
}
