// Package interop checks that ctxlock, valkeylock and rueidislock exclude each other when they run at once, as in a fleet that
// moves from one to another. It is a module of its own because the library must not depend on the others.
package interop
