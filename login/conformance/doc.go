// Package conformance tries package login with servers that other people wrote:
// the certified provider of zitadel/oidc, in process; dex, in process;
// oidc-provider, another certified one, as a Node.js program that npm ci installs
// below panva; and Bluesky's, below atproto, with a Node.js of its own. It has tests
// only, and a module of its own so that nobody who uses package login depends on any
// of them.
package conformance
