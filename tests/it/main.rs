mod html_fixtures;
