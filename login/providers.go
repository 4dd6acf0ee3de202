package login

import (
	"container/list"
	"errors"
	"sync"
)

// Providers are those of an application with many issuers, each made when it is first
// asked for. At most Max are kept. The one that was unused the longest is dropped, and
// made again when it is needed.
//
// The zero value is ready to use. It is safe for concurrent use, must not be copied, and
// its fields must not be modified after first use.
type Providers struct {
	// New makes the provider of an issuer, and returns an error for one that this
	// application does not trust: an issuer may come from a stranger. If nil, it is a
	// [Provider] with nothing but its Issuer.
	New func(issuer string) (*Provider, error)
	// Max is how many are kept. If 0 or less, it is 1,000.
	Max int

	mu     sync.Mutex
	all    map[string]*list.Element
	recent list.List // of *Provider; the last one is forgotten next
}

// Provider returns the one of issuer: the same as before, while it is kept.
func (ps *Providers) Provider(issuer string) (*Provider, error) {
	if p := ps.known(issuer); p != nil {
		return p, nil
	}
	p := &Provider{Issuer: issuer}
	if ps.New != nil {
		var err error
		if p, err = ps.New(issuer); err != nil {
			return nil, err
		}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Issuer != issuer {
		return nil, errors.New("login: Providers.New returned the provider of another issuer")
	}
	return ps.keep(p), nil
}

func (ps *Providers) known(issuer string) *Provider {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	e := ps.all[issuer]
	if e == nil {
		return nil
	}
	ps.recent.MoveToFront(e)
	p, _ := e.Value.(*Provider)
	return p
}

// keep returns p, or the one that somebody else has kept meanwhile.
func (ps *Providers) keep(p *Provider) *Provider {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if e := ps.all[p.Issuer]; e != nil {
		p, _ = e.Value.(*Provider)
		return p
	}
	if ps.all == nil {
		ps.all = make(map[string]*list.Element)
	}
	ps.all[p.Issuer] = ps.recent.PushFront(p)
	most := ps.Max
	if most <= 0 {
		most = 1000
	}
	for ps.recent.Len() > most {
		last, _ := ps.recent.Remove(ps.recent.Back()).(*Provider)
		delete(ps.all, last.Issuer)
	}
	return p
}
