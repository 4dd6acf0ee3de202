// Package conformance runs the official conformance suite of the Model Context Protocol,
// which npm has as @modelcontextprotocol/conformance, against package mcp. It has only
// tests. They need npm; what npm has to bring, also the Node that the suite needs, is named in suite.
package conformance
