import { QueryClientProvider } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Router } from 'wouter';
import { App } from './app';
import { basePath } from './lib/api';
import { watchTheme } from './lib/prefs';
import { client } from './lib/query';
import './styles.css';

watchTheme();
const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={client}>
        <Router base={basePath().replace(/\/$/, '')}>
          <App />
        </Router>
      </QueryClientProvider>
    </StrictMode>,
  );
}
