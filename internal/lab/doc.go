// Package lab runs real Valkey and Redis servers on loopback, for specs and for the demo program: single servers, primaries
// with replicas, clusters, sentinels, a proxy that makes the network fail on demand, and a server that lies about locks.
//
// It is a laboratory, not a supervisor. Every server is a child of this process, keeps its files in a temporary folder of its
// own and nothing on disk that anybody would miss. Whoever starts something stops it, by the Stop or Close that came with it;
// on Linux the kernel ends the servers as well when this process dies without having done so (see process.go). Everything
// that waits is bounded in time.
//
// It needs the standard library only: specs look at a server through [Server.Do], not through the client under test.
package lab
