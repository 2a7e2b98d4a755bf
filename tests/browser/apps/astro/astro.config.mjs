// The tests come under a name of their own.
export default { server: { allowedHosts: true } };
