package main

import "github.com/valkey-io/valkey-go/valkeylock"

func valkeylocks() Contender {
	return Contender{
		Library: valkeylockLibrary, Module: "github.com/valkey-io/valkey-go",
		Note: "KeyMajority 1 and NoLoopTracking, as its documentation advises for one deployment; defaults otherwise.",
		Own:  under("valkeylock:0:"), // a key for each name; what else has the prefix is ctxlock's
		Open: func(at Place) (Locker, error) {
			l, err := valkeylock.NewLocker(valkeylock.LockerOption{
				KeyMajority: 1, NoLoopTracking: true, KeyValidity: at.Validity, ClientOption: valkeyClient(at),
			})
			return dropInLocker{l}, err
		},
	}
}
