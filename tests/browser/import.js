// Imports what it is told.
function lead(address) { return import(address); }
