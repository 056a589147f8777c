// htmx would write a style sheet of its own into every page of the admin, which the page's policy refuses.
htmx.config.includeIndicatorStyles = false;
