package lifecycle

import (
	"fmt"
	"testing"
)

// A slip is a mistake of the loop. The rules that they break are what docs/protocol.md
// demands of the loop.
type slip uint8

const (
	noSlip      slip = iota
	slipOpen         // an own request that is still open is not waited for
	slipSpan         // a new version is taken for as old as the one before
	slipTwin         // of two answers to one refresh token, the own one counts
	slipPublish      // an answer is handed out before it is saved
	slipLease        // the lease is given back while a request is open or a successor not saved
	slipVersion      // a Save compares no versions
	slipStall        // the age of the lease and the marker is not checked before a send
	slipLook         // who has a fresh token does not look at the Store once a span
	slipLate         // a late answer is ignored
	slipNumber       // a new login is numbered without a look at the Store
	slipClock        // a marker's age is taken from its writer's clock
	slipUser         // a successor that is not saved outlives a new login
	slipCount        // what was certainly not processed counts as a send
	slipWinner       // on a conflict, whatever is in the Store counts as newer
	numSlips
)

var slipNames = [numSlips]string{
	slipOpen: "an open request is not waited for",
	slipSpan: "a new version is old", slipTwin: "no twins",
	slipPublish: "handed out before it is saved", slipLease: "the lease is given back early",
	slipVersion: "no versions", slipStall: "no check of age", slipLook: "nobody looks",
	slipLate: "late answers are ignored", slipNumber: "logins are not numbered",
	slipWinner: "who wrote the record has won", slipCount: "what was not processed counts", slipClock: "somebody else's clock counts", slipUser: "a successor outlives a new login",
}

func TestEverySlipOfTheLoopIsFound(t *testing.T) {
	for s := slipOpen; s < numSlips; s++ {
		if raced && s > slipSpan {
			break
		}
		how := ""
		for _, cfg := range probes() {
			cfg.slip = s
			if r := explore(&cfg, 5); r.bad != "" {
				how = fmt.Sprintf("%s, in %d steps (%s)", r.bad, r.depth+1, cfg.name)
				break
			}
		}
		if how == "" {
			t.Errorf("not found: %s", slipNames[s])
		}
		t.Logf("%s: %s", slipNames[s], how)
	}
}
