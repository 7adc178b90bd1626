module github.com/ctxlock/ctxlock

go 1.25.0

require github.com/valkey-io/valkey-go v1.0.79

require (
	github.com/onsi/gomega v1.44.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
