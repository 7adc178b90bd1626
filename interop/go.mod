module github.com/ctxlock/ctxlock/interop

go 1.25.0

require (
	github.com/ctxlock/ctxlock v0.0.0
	github.com/redis/rueidis v1.0.79
	github.com/valkey-io/valkey-go v1.0.79
)

require golang.org/x/sys v0.47.0 // indirect

replace github.com/ctxlock/ctxlock => ../
