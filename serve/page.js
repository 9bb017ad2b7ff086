'use strict';
const $ = id => document.getElementById(id);
let round = 0, urls = [], server = {}, last = null;

const headers = () => $('token').value ? { Authorization: 'Bearer ' + $('token').value } : {};

fetch('/healthz').then(r => r.json()).then(h => {
  server = h;
  $('run').textContent = h.run || '';
  $('about').textContent = h.search ? `Drop an image to see its cluster and the nearest of ${h.indexed} images.`
    : 'Drop an image to see its cluster. No images to search were given (swav serve RUN --data SRC).';
}).catch(() => complain('the server does not answer'));

function complain(text) {
  $('problem').textContent = text;
  $('problem').hidden = !text;
}

function keep(blob) {
  const url = URL.createObjectURL(blob);
  urls.push(url);
  return url;
}

function element(kind, text, parent) {
  const e = document.createElement(kind);
  if (text !== undefined) e.textContent = text;
  if (parent) parent.append(e);
  return e;
}

async function ask(path, file) {
  const r = await fetch(path, { method: 'POST', body: file, headers: headers() });
  const answer = await r.json().catch(() => ({ error: 'status ' + r.status }));
  if (r.status === 401) {
    $('secret').hidden = false;
    $('token').focus();
  }
  const one = answer.images ? answer.images[0] : answer;
  if (one.error) throw new Error(one.error);
  return one;
}

async function show(file) {
  const mine = ++round;
  last = file;
  urls.forEach(URL.revokeObjectURL);
  urls = [];
  complain('');
  $('result').hidden = $('classes').hidden = $('near').hidden = true;
  $('query').src = keep(file);
  $('query').hidden = false;
  $('invite').textContent = '';
  try {
    const c = await ask('/cluster?top=4', file);
    if (mine !== round) return;
    $('tiles').replaceChildren(...c.top.map((t, i) => {
      const tile = element('div');
      tile.className = i ? 'tile' : 'tile first';
      element('b', t.cluster, tile);
      element('small', (i ? 'next cluster' : 'its cluster') + ', cosine ' + t.score.toFixed(3), tile);
      return tile;
    }));
    $('result').hidden = false;
    if (server.predict) await classes(file, mine);
    if (server.search && mine === round) await nearest(file, mine);
  } catch (e) {
    if (mine === round) complain(e.message);
  }
}

async function classes(file, mine) {
  const p = await ask('/predict', file);
  if (mine !== round) return;
  $('method').textContent = 'by ' + p.method;
  $('bars').replaceChildren(...p.classes.slice(0, 5).map(c => {
    const bar = element('div');
    bar.className = 'bar';
    element('span', c.label, bar);
    element('i', undefined, element('span', undefined, bar)).style.width = 100 * c.probability + '%';
    element('small', (100 * c.probability).toFixed(1) + ' %', bar);
    return bar;
  }));
  $('classes').hidden = false;
}

async function nearest(file, mine) {
  const s = await ask('/search?k=12', file);
  if (mine !== round) return;
  $('grid').replaceChildren();
  $('near').hidden = false;
  for (const hit of s.nearest) {
    const figure = element('figure', undefined, $('grid'));
    const frame = element('div', undefined, figure);
    const caption = element('figcaption', hit.id, figure);
    element('br', undefined, caption);
    element('small', `${hit.label ? hit.label + ', ' : ''}cosine ${hit.similarity.toFixed(3)}`, caption);
    fetch(hit.image, { headers: headers() }).then(r => r.ok ? r.blob() : Promise.reject()).then(blob => {
      if (mine !== round) return;
      const img = element('img', undefined, frame);
      img.alt = hit.id;
      img.src = keep(blob);
    }).catch(() => {});
  }
}

$('token').onchange = () => { if (last) show(last); };
const first = files => [...(files || [])].find(f => f.type.startsWith('image/')) || (files || [])[0];
$('file').onchange = e => { const f = first(e.target.files); if (f) show(f); e.target.value = ''; };
$('drop').onkeydown = e => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); $('file').click(); } };
document.ondragover = e => { e.preventDefault(); $('drop').classList.add('over'); };
document.ondragleave = () => $('drop').classList.remove('over');
document.ondrop = e => { e.preventDefault(); $('drop').classList.remove('over'); const f = first(e.dataTransfer.files); if (f) show(f); };
document.onpaste = e => { const f = first(e.clipboardData.files); if (f) show(f); };
