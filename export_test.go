package ctxlock

import "github.com/ctxlock/ctxlock/store"

// OpenStore gives the conformance suite the store beneath NewLocker.
func OpenStore(option LockerOption) (store.Store, error) {
	option, err := option.settled()
	if err != nil {
		return nil, err
	}
	return openValkey(option, defaultDrift)
}

// The sums of the scripts that claim from a place in the queue, and that pass a lock on.
var (
	JoinScript = joinScript.sha1
	PassScript = passScript.sha1
)
